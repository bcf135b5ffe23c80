"""What a generator is asked for, in words."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from trcgl.dataset.labels import phrase
from trcgl.dataset.sources import padchest_findings
from trcgl.generate.prompts import EMPTY, PromptFormat, prompt
from trcgl.phantom import labels

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


@pytest.mark.parametrize(
    ("view", "findings", "text"),
    [
        ("frontal", ["Hernia", "Mass"], "frontal chest radiograph with hernia and mass"),
        ("lateral", ["Hernia"], "lateral chest radiograph with hernia"),
        ("lateral", ["Normal"], "normal lateral chest radiograph"),
        ("frontal", [], "frontal chest radiograph"),
        ("other", ["Hernia"], "chest radiograph with hernia"),
        (None, ["Normal"], "normal chest radiograph"),
    ],
)
def test_a_prompt_names_the_view_where_it_is_known(view, findings, text):
    assert prompt(findings, "Normal", view=view).text == text
    assert PromptFormat(SPACE, views=True).prompt(findings, view).text == text
    assert PromptFormat(SPACE).prompt(findings, view) == prompt(findings, "Normal")


def up_to(count):
    return lambda prompt: len(prompt.findings) <= count


def test_the_most_frequent_findings_are_left_out_of_a_label_set_that_is_too_long():
    findings = ["cardiomegaly", "Kyphosis", "Hernia", "Mass", "azygos lobe"]  # head, medium, medium, medium, tail
    positives = {"cardiomegaly": 10, "Kyphosis": 40, "Hernia": 900, "Mass": 40, "azygos lobe": 50}

    def kept(count, **more):
        return PromptFormat(SPACE, positives=positives, fits=up_to(count)).shortened(findings, **more)

    assert kept(5) == findings
    assert kept(4) == ["Kyphosis", "Hernia", "Mass", "azygos lobe"]
    assert kept(3) == ["Kyphosis", "Mass", "azygos lobe"]
    assert kept(2) == ["Mass", "azygos lobe"]  # equally frequent: the order of the label space
    assert kept(1) == kept(0) == ["azygos lobe"]
    assert kept(2, target="cardiomegaly") == ["cardiomegaly", "azygos lobe"]


def test_the_normal_label_is_no_part_of_a_contradicting_label_set():
    wording = PromptFormat(SPACE, fits=up_to(1))
    assert wording.shortened(["Normal", "Hernia"]) == ["Hernia"]
    assert wording.shortened(["Normal"]) == ["Normal"]
    assert wording.shortened([]) == []


@given(label_sets, st.integers(0, 2**32), st.integers(1, 4))
def test_a_shortened_prompt_names_the_same_findings_in_any_order(findings, seed, count):
    wording = PromptFormat(SPACE, fits=up_to(count))
    named = wording.prompt(findings, "frontal", np.random.default_rng(seed)).findings
    assert set(named) == set(wording.shortened(findings, "lateral"))
    assert len(named) == min(count, len(findings))


# Tokens of CLIP's vocabulary in each finding's name; `test_bundled_counts_are_those_of_the_true_vocabulary`.
CLIP_TOKENS = {
    "Normal": 1, "cardiomegaly": 4, "Support Devices": 2, "aortic elongation": 4, "pleural effusion": 4,
    "atelectasis": 4, "interstitial pattern": 5, "central venous catheter": 5, "alveolar pattern": 5, "Kyphosis": 3,
    "pleural thickening": 4, "vertebral degenerative changes": 5, "fracture": 1, "vascular hilar enlargement": 5,
    "Nodule": 3, "sternotomy": 3, "bronchiectasis": 5, "aortic atheromatosis": 5, "hemidiaphragm elevation": 5,
    "Hernia": 2, "Emphysema": 3, "Mass": 1, "hypoexpansion": 2, "calcified densities": 5, "hyperinflated lung": 4,
    "Pneumothorax": 4, "azygos lobe": 4, "Subcutaneous Emphysema": 6, "pneumoperitoneo": 6, "Hydropneumothorax": 5,
}  # fmt: skip
LONGEST = 77
SHARED, EACH = 4, 4  # context tokens of the recipe `generator_sd15`


def clip_length(prompt, shared=SHARED, each=EACH):
    """Tokens of a prompt with begin, end and context tokens; "chest radiograph with" has 4 tokens, a view 1 more."""
    words = sum(CLIP_TOKENS[finding] if finding else len(words.split()) for words, finding in prompt.pieces)
    radiographs = sum("radiograph" in words for words, _ in prompt.pieces)  # two tokens
    return 2 + shared + words + radiographs + each * len(prompt.findings)


def padchest_label_sets():
    members, shares = labels.padchest_label_sets()
    findings = [[name for name, there in zip(SPACE.findings, row, strict=True) if there] for row in members]
    return findings, np.rint(shares * 123_367).astype(int)


@pytest.mark.parametrize("view", [None, "frontal", "lateral"])
def test_no_label_set_of_padchest_exceeds_the_text_encoder_of_stable_diffusion(view):
    wording = PromptFormat(SPACE, views=True, fits=lambda prompt: clip_length(prompt) <= LONGEST)
    findings, counts = padchest_label_sets()
    whole = np.array([clip_length(prompt(names, "Normal", view=view)) for names in findings])
    assert ((whole > LONGEST).sum(), counts[whole > LONGEST].sum()) == (6, 12)
    for names, length in zip(findings, whole, strict=True):
        shortened = wording.prompt(names, view)
        assert clip_length(shortened) <= LONGEST
        assert (set(shortened.findings) == set(prompt(names, "Normal").findings)) == (length <= LONGEST)


@pytest.fixture(scope="module")
def clip():
    """The tokenizer of CLIP, from the vocabulary that open_clip_torch ships."""
    found = importlib.util.find_spec("open_clip")
    if found is None:
        pytest.skip("needs the vocabulary in open_clip_torch, which is not installed")
    packed = Path(found.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(packed.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    letters = list(bytes_to_unicode().values())
    ends = ["<|startoftext|>", "<|endoftext|>"]
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges), *ends]
    return CLIPTokenizer(vocab={word: place for place, word in enumerate(words)}, merges=merges)


def test_bundled_counts_are_those_of_the_true_vocabulary(clip):
    assert clip("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert {name: len(clip(phrase(name)).input_ids) - 2 for name in SPACE.findings} == CLIP_TOKENS
    for names in padchest_label_sets()[0][::10]:
        for view in (None, "frontal", "lateral"):
            asked = prompt(names, "Normal", view=view)
            assert clip_length(asked, 0, 0) == len(clip(asked.text).input_ids)
