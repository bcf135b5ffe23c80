"""The verdict is made from the numbers: gain, loss, no difference, and a gain that costs the head."""

import pytest

from trcgl.study.utility_report import outcome, verdict, what

ARM = "mix_1"


def contrast(arm, against, value, *, reach=0.02, head=0.0, primary=False):
    return {
        "arm": arm,
        "against": against,
        "primary": primary,
        "value": value,
        "seeds": [0, 1, 2],
        "interval": [value - reach, value + reach],
        "detectable": 0.03,
        "also": {} if head is None else {"mAP_head": {"value": head, "interval": [head - 0.01, head + 0.01]}},
    }


def document(value=0.0, *, head=0.0, head_real=0.0, deranged=0.05, used=10, right=0):
    drawn = f"drawn_{ARM}"
    return {
        "arms": {drawn: {"diverged": {}}},
        "contrasts": [
            contrast(drawn, f"duplicated_{ARM}", value, head=head, primary=True),
            contrast(drawn, "real", 0.01, head=head_real),
            contrast(drawn, f"deranged_{ARM}", deranged),
            contrast(drawn, "balanced", -0.05),
        ],
        "choice": {"dose": 1.0, "schedule": "mix"},
        "amounts": [
            {
                "finding": "Hernia",
                "drawn": 20,
                "doses": [{"dose": 1.0, "asked": 10, "used": used, "reached": used / 10}],
            },
            {"finding": "Normal", "drawn": 20, "doses": [{"dose": 1.0, "asked": None, "used": 1, "reached": 0.1}]},
        ],
        "deranged_right": right,
    }


@pytest.mark.parametrize(
    ("value", "heads", "said", "words"),
    [
        (0.05, (0.0, 0.0), "gain", "A gain: drawn images against as many copies of real ones (dose 1, mix, chosen on"),
        (0.05, (-0.0099, -0.0099), "gain", "head mAP: -0.0099 against copies; -0.0099 against real images alone"),
        (0.05, (-0.0101, 0.0), "head loss", "No gain is claimed: "),
        (0.05, (0.0, -0.02), "head loss", "but head mAP loses more than 0.01"),
        (0.05, (None, None), "gain", "there is no head finding to lose"),
        (0.019, (0.0, 0.0), "no difference", "+0.0390] in tail mAP over 3 seeds; one of 0.0300 would probably"),
        (-0.019, (-0.5, -0.5), "no difference", "No difference shown: "),
        (-0.05, (0.0, 0.0), "loss", "A loss: "),
    ],
)  # fmt: skip
def test_a_gain_is_claimed_by_the_rule_alone(value, heads, said, words):
    told = document(value, head=heads[0], head_real=heads[1])
    assert outcome(told["contrasts"]) == said
    assert words in verdict(told)
    assert ("A gain" in verdict(told)) == (said == "gain")


def test_nothing_is_said_without_an_interval():
    told = document(0.05)
    told["contrasts"][0] |= {"interval": None, "why": "one seed"}
    assert outcome(told["contrasts"]) == "unknown"
    assert verdict(told).startswith("Nothing can be said of drawn images") and "one seed" in verdict(told)


def test_no_gain_is_claimed_where_its_cost_is_not_known():
    told = document(0.05)
    told["contrasts"][1] |= {"interval": None, "why": "one seed"}
    assert outcome(told["contrasts"]) == "unknown"
    assert verdict(told).startswith("No gain is claimed: ") and "costs the head is not known" in verdict(told)


def test_it_says_whether_the_same_images_do_as_well_with_deranged_labels():
    assert "what the images show counts" in verdict(document(deranged=0.05))
    unclear = verdict(document(deranged=0.01))
    assert "Deranged labels are not shown to do worse than right ones (right - deranged: +0.0100" in unclear
    assert "detectable 0.0300): it may not be what the images show that matters." in unclear
    assert "Deranged labels do better than right ones" in verdict(document(deranged=-0.05))
    assert "3 of the deranged images have their own finding nevertheless" in verdict(document(right=3))


def test_a_dose_that_is_not_reached_is_said():
    assert "Kept images do not reach the dose for 1 of 1 findings (Hernia 0.40)." in verdict(document(used=4))
    assert "do not reach" not in verdict(document())


def test_real_images_alone_and_the_other_contrasts_are_told():
    told = verdict(document(0.05))
    assert "Against real images alone: no difference shown, +0.0100 [-0.0100, +0.0300], detectable 0.0300." in told
    assert "Of 1 other contrast, adjusted for their number (Holm): higher none; lower drawn_mix_1 - balanced." in told


def test_an_arm_says_what_it_is_in_its_name():
    names = ("per_finding_tokens_mix_0.25", "drawn_pretrain_4", "round_trip_mix_1", "real")
    assert [what(one) for one in names] == ["per_finding_tokens", "drawn", "round_trip", "real"]
