"""What a generator is asked for, in words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trcgl.dataset.labels import phrase
from trcgl.dataset.sources import padchest_findings
from trcgl.generate.prompts import EMPTY, prompt

SPACE = padchest_findings.SPACE
label_sets = st.lists(st.sampled_from([name for name in SPACE.findings if name != "Normal"]), min_size=1, unique=True)


@pytest.mark.parametrize(
    ("findings", "text"),
    [
        (["Hernia"], "chest radiograph with hernia"),
        (["Hernia", "Mass"], "chest radiograph with hernia and mass"),
        (["Hernia", "Mass", "Nodule"], "chest radiograph with hernia, mass and nodule"),
        (["Normal"], "normal chest radiograph"),
        (["Normal", "Hernia"], "chest radiograph with hernia"),
        ([], "chest radiograph"),
    ],
)
def test_a_label_set_reads_as_a_phrase(findings, text):
    assert prompt(findings, "Normal").text == text


@given(label_sets, st.integers(0, 2**32))
def test_every_finding_is_named_once_in_any_order(findings, seed):
    shuffled = prompt(findings, "Normal", np.random.default_rng(seed))
    assert sorted(shuffled.findings) == sorted(findings)
    assert shuffled == prompt(findings, "Normal", np.random.default_rng(seed))
    assert all(phrase(finding) in shuffled.text for finding in findings)


def test_the_order_is_shuffled():
    texts = {prompt(["Hernia", "Mass"], None, np.random.default_rng(seed)).text for seed in range(20)}
    assert texts == {"chest radiograph with hernia and mass", "chest radiograph with mass and hernia"}


def test_the_empty_prompt_says_nothing():
    assert (EMPTY.text, EMPTY.findings) == ("", ())
