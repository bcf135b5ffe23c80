"""The verdict is made from the numbers: gain, loss, no difference, and a gain that costs the head."""

import pytest

from trcgl.study.utility_report import kind_of, outcome, sentences

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
    arm = f"synthetic_{ARM}"
    return {
        "arms": {arm: {"diverged": {}}},
        "contrasts": [
            contrast(arm, f"duplicated_{ARM}", value, head=head, primary=True),
            contrast(arm, "real", 0.01, head=head_real),
            contrast(arm, f"deranged_{ARM}", deranged),
            contrast(arm, "balanced", -0.05),
        ],
        "choice": {"dose": 1.0, "schedule": "mix"},
        "amounts": [
            {
                "finding": "Hernia",
                "synthetic": 20,
                "doses": [{"dose": 1.0, "asked": 10, "used": used, "reached": used / 10}],
            },
            {"finding": "Normal", "synthetic": 20, "doses": [{"dose": 1.0, "asked": None, "used": 1, "reached": 0.1}]},
        ],
        "deranged_right": right,
    }


def verdict(table):
    return " ".join(sentences(table))


@pytest.mark.parametrize(
    ("value", "heads", "expected", "sentence"),
    [
        (0.05, (0.0, 0.0), "gain", "A gain: synthetic images compared with the same number of duplicates of real"),
        (0.05, (-0.0099, -0.0099), "gain", "head mAP: -0.0099 against duplicates; -0.0099 against real images alone"),
        (0.05, (-0.0101, 0.0), "head loss", "No gain is claimed: "),
        (0.05, (0.0, -0.02), "head loss", "but head mAP loses more than 0.01"),
        (0.05, (None, None), "gain", "there is no head finding to lose"),
        (0.019, (0.0, 0.0), "no difference", "; a difference of 0.03 would have been detected with 80 % power."),
        (-0.019, (-0.5, -0.5), "no difference", "No difference shown: "),
        (-0.05, (0.0, 0.0), "loss", "A loss: "),
    ],
)  # fmt: skip
def test_a_gain_is_claimed_by_the_rule_alone(value, heads, expected, sentence):
    found = document(value, head=heads[0], head_real=heads[1])
    assert outcome(found["contrasts"]) == expected
    assert sentence in verdict(found)
    assert ("A gain" in verdict(found)) == (expected == "gain")


def test_the_verdict_claims_nothing_without_an_interval():
    found = document(0.05)
    found["contrasts"][0] |= {"interval": None, "why": "one seed"}
    assert outcome(found["contrasts"]) == "unknown"
    assert verdict(found).startswith("Nothing can be said of synthetic images") and "one seed" in verdict(found)


def test_no_gain_is_claimed_where_its_cost_is_not_known():
    found = document(0.05)
    found["contrasts"][1] |= {"interval": None, "why": "one seed"}
    assert outcome(found["contrasts"]) == "unknown"
    assert verdict(found).startswith("No gain is claimed: ") and "costs the head is not known" in verdict(found)


def test_the_verdict_says_whether_deranged_labels_do_as_well():
    assert "the content of the images matters" in verdict(document(deranged=0.05))
    unclear = verdict(document(deranged=0.01))
    assert "Deranged labels are not shown to do worse than right labels (right - deranged: +0.0100" in unclear
    assert "detectable 0.0300): the content of the images may not be what matters." in unclear
    assert "Deranged labels do better than right labels" in verdict(document(deranged=-0.05))
    assert "3 of the deranged images have their own finding nevertheless" in verdict(document(right=3))


def test_the_verdict_names_a_dose_that_is_not_reached():
    assert "Kept images do not reach the dose for 1 of 1 findings (Hernia 0.40)." in verdict(document(used=4))
    assert "do not reach" not in verdict(document())


def test_the_verdict_covers_real_images_alone_and_the_other_contrasts():
    found = verdict(document(0.05))
    assert (
        "Compared with real images alone: no difference shown, +0.0100 [-0.0100, +0.0300], detectable 0.0300." in found
    )
    assert (
        "Of 1 other contrast, adjusted for their number (Holm): higher none; lower synthetic_mix_1 - balanced." in found
    )


def test_the_name_of_an_arm_holds_its_kind():
    names = ("per_finding_tokens_mix_0.25", "synthetic_pretrain_4", "round_trip_mix_1", "real")
    assert [kind_of(name) for name in names] == ["per_finding_tokens", "synthetic", "round_trip", "real"]
