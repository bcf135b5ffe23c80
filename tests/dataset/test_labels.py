"""How findings are named."""

import pytest

from trcgl.dataset.labels import phrase
from trcgl.dataset.sources import padchest_findings


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        ("Pleural_Thickening", "pleural thickening"),
        ("pneumoperitoneo", "pneumoperitoneum"),
        ("Support Devices", "support devices"),
        ("COPD signs", "COPD signs"),
        ("Hernia", "hernia"),
    ],
)
def test_a_finding_is_named_as_in_a_sentence(finding, words):
    assert phrase(finding) == words


def test_no_two_findings_share_a_phrase():
    assert len({phrase(finding) for finding in padchest_findings.SPACE.findings}) == len(
        padchest_findings.SPACE.findings
    )
