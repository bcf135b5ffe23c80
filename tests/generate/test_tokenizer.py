"""Words of prompts are tokens; other words are spelled, and nothing ends a prompt by accident."""

from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from trcgl.dataset.sources.padchest_findings import SPACE
from trcgl.generate.prompts import prompt
from trcgl.generate.tokenizer import build_tokenizer

TEXTS = [prompt((finding,), "Normal").text + ", and" for finding in SPACE.findings]
TOKENIZER = build_tokenizer(TEXTS, 48)


def tokens(text):
    return TOKENIZER.convert_ids_to_tokens(TOKENIZER(text, add_special_tokens=False).input_ids)


def test_every_word_of_a_prompt_is_one_token():
    words = "chest radiograph with pneumoperitoneum, hydropneumothorax and kyphosis"
    assert tokens(words) == [f"{word}</w>" for word in words.replace(",", " ,").split()]


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12))
def test_any_other_word_is_spelled_and_ends_nothing(word):
    spelled = tokens(word)
    assert "".join(spelled).replace("</w>", "") == word.lower()
    assert TOKENIZER.eos_token not in spelled


def test_it_is_the_same_when_it_is_built_again_and_when_it_was_stored(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    text = "chest radiograph with hernia and zebra"
    for other in (build_tokenizer(reversed(TEXTS), 48), CLIPTokenizer.from_pretrained(tmp_path)):
        assert other(text).input_ids == TOKENIZER(text).input_ids
        assert other.model_max_length == 48
