"""Findings as vectors: what a text model makes of their names, for label embeddings that start with a meaning."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from trcgl.core.errors import RecipeError
from trcgl.dataset.labels import phrase


def finding_vectors(where: str, findings: Sequence[str]) -> Float[Tensor, "findings text"]:
    """Encode each finding's name: the mean of the last hidden states over its tokens, scaled to length 1.

    This is what sentence encoders such as all-MiniLM-L6-v2 do (Reimers & Gurevych 2019). Of a model with encoder and
    decoder the encoder is read.

    Args:
        where: folder or hub id of a `transformers` text model with safetensors weights.
        findings: names; `Pleural_Thickening` is read as "pleural thickening".

    Returns:
        (C, T) in float32, with T the hidden width of the model.

    Raises:
        RecipeError: transformers is not installed, or the model cannot be loaded or does not read text alone.
    """
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise RecipeError("model.label_text needs transformers. Run: pip install 'trcgl-net[generate]'") from error
    try:
        with _quiet(), torch.inference_mode():
            tokenizer = AutoTokenizer.from_pretrained(where)
            model = AutoModel.from_pretrained(where, use_safetensors=True, dtype=torch.float32).eval()
            if model.config.is_encoder_decoder:
                model = model.get_encoder()
            read = [tokenizer(phrase(one), return_tensors="pt") for one in findings]
            means = [model(**one).last_hidden_state[0].mean(0) for one in read]
    except Exception as error:  # loaders of a hundred architectures, the hub client and safetensors each have their own
        raise RecipeError(
            f"model.label_text {where!r} cannot be read ({(str(error) or repr(error)).strip().splitlines()[0]}). Give "
            "the folder of a transformers text model (config.json, tokenizer files and model.safetensors), or a hub id "
            "that exists, such as sentence-transformers/all-MiniLM-L6-v2. Without network, fetch the model elsewhere "
            "and give its folder; or leave model.label_text out to start label embeddings at random."
        ) from error
    return functional.normalize(torch.stack(means).clone(), dim=-1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence progress bars, and the warning that a head of the model is not used."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
