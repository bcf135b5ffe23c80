"""What a reader has to know beside a verdict."""

import pytest

from trcgl.audit.checks.label_fidelity import FAIL, PASS
from trcgl.audit.evidence import conclusion


def told(word, drawn):
    return {
        "label_fidelity": {
            "verdict": {"word": word, "why": "because"},
            "deranged": {"across": True, "auroc": {"value": 0.5}, "highest": None},
        },
        "ceiling": {"drawable": True},
        "memorization": {"flagged": False},
        "structure": {"drawn": {"value": drawn}, "real": {"value": 0.9}},
        "counts": {"source_patients": 100},
    }


@pytest.mark.parametrize(
    ("word", "drawn", "cautions"),
    [
        (PASS, 0.8, []),
        (
            PASS,
            0.2,
            ["The structure of the finding is there in 20% of drawn and 90% of real images: the score is fooled."],
        ),
        (FAIL, 0.2, ["The structure of the finding is there in 20% of drawn and 90% of real images."]),
    ],
)
def test_a_score_without_the_structure_is_called_fooled(word, drawn, cautions):
    assert conclusion(told(word, drawn))["cautions"] == cautions


def test_a_finding_that_the_autoencoder_erases_is_not_drawable_whatever_the_score():
    erased = told(PASS, 0.8) | {"ceiling": {"drawable": False, "why": "it is gone"}}
    assert conclusion(erased)["word"] == "not drawable"
