"""A CLIP tokenizer for a generator from scratch: each word of its prompts is a token, others are spelled in letters."""

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"
_LAST = "</w>"  # CLIP marks the end of a word
_CHARACTERS = [chr(code) for code in range(ord("!"), ord("~") + 1)]


def build_tokenizer(texts: Iterable[str], tokens: int) -> CLIPTokenizer:
    """A tokenizer of the words of `texts`, and of every printable character within a word and at its end.

    `tokens` is the length of the longest prompt, with its begin and end.
    """
    learner = Tokenizer(models.BPE(end_of_word_suffix=_LAST))
    learner.normalizer = normalizers.Lowercase()
    words = Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
    learner.pre_tokenizer = pre_tokenizers.Split(words, behavior="removed", invert=True)
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,  # more than there are: every word is merged to the end
        show_progress=False,
        initial_alphabet=_CHARACTERS,
        end_of_word_suffix=_LAST,
        special_tokens=[_BEGIN, _END, *(character + _LAST for character in _CHARACTERS)],
    )
    learner.train_from_iterator(sorted(set(texts)), trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return CLIPTokenizer(vocab=learner.get_vocab(), merges=[tuple(pair) for pair in merges], model_max_length=tokens)
