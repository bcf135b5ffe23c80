"""The verdict on a finding and the cautions beside it."""

import pytest

from trcgl.audit.check import FAIL, PASS, conclude
from trcgl.audit.checks import CHECKS


def results(word, share):
    return {
        "label_fidelity": {
            "verdict": {"word": word, "why": "because"},
            "deranged": {"across": True, "auroc": {"value": 0.5}, "highest": None},
        },
        "ceiling": {"representable": True},
        "memorization": {"flagged": False},
        "structure": {"synthetic": {"value": share}, "real": {"value": 0.9}},
        "counts": {"source_patients": 100},
    }


@pytest.mark.parametrize(
    ("word", "share", "cautions"),
    [
        (PASS, 0.8, []),
        (
            PASS,
            0.2,
            ["The structure of the finding is there in 20% of synthetic and 90% of real images: the score is fooled."],
        ),
        (FAIL, 0.2, ["The structure of the finding is there in 20% of synthetic and 90% of real images."]),
    ],
)
def test_a_score_without_the_structure_is_called_fooled(word, share, cautions):
    assert list(conclude(results(word, share), CHECKS).cautions) == cautions


def test_a_finding_that_the_autoencoder_erases_is_not_representable_whatever_the_score():
    erased = results(PASS, 0.8) | {"ceiling": {"representable": False, "why": "it is gone"}}
    assert conclude(erased, CHECKS).word == "not representable"
