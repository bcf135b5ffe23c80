"""Numbers and the lead of the page."""

import pytest

from trcgl.audit import report


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.000123456, "0.000123"), (-0.0815, "-0.0815"), (4.5, "4.50"), (1234.5, "1234"), (0.224, "0.224")],
)
def test_a_distance_is_shown_with_three_digits_and_no_exponent(value, shown):
    assert report._small(value) == shown


def entry(word, flagged=False):
    return {"verdict": {"word": word}, "memorization": {"flagged": flagged}}


@pytest.mark.parametrize(
    ("entries", "lead"),
    [
        (
            {"A": entry("pass"), "B": entry("fail"), "C": entry("not assessable")},
            "An independent classifier recognizes A in the synthetic images as well as in real ones; B: fail; it "
            "cannot assess C. No sign that they repeat training images was found.",
        ),
        (
            {"A": entry("fail", True), "B": entry("fail", None)},
            "An independent classifier recognizes none of 2 audited findings in the synthetic images as well as in "
            "real ones; A and B: fail. Synthetic images of A repeat training images.",
        ),
        (
            {"A": entry("not assessable", None)},
            "A cannot be assessed. Whether images repeat training images could not be tested for A: too few images.",
        ),
    ],
)
def test_the_lead_says_what_was_found_in_two_sentences(entries, lead):
    assert report.lead({"findings": entries, "overall": {"memorization": {"flagged": False}}}) == lead
