"""Text vectors: the names of findings encoded by a text model, as initial label embeddings."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from trcgl.core.errors import RecipeError
from trcgl.dataset.labels import phrase
from trcgl.model.hub import first_line


def finding_vectors(where: str, findings: Sequence[str]) -> Float[Tensor, "findings text"]:
    """Encode the name of each finding: the last hidden states, averaged over tokens and scaled to length 1.

    Sentence encoders such as all-MiniLM-L6-v2 do the same (Reimers & Gurevych 2019). Of an encoder-decoder model, the
    encoder is used.

    `where` is the folder or hub id of a `transformers` text model with safetensors weights, T its hidden width.
    `Pleural_Thickening` is encoded as "pleural thickening".

    Raises:
        RecipeError: transformers is not installed, or the text model cannot be loaded.
    """
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise RecipeError("model.label_text needs transformers. Run: pip install 'trcgl-net[generate]'") from error
    verbosity, progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # a warning lists the unused weights of the text model's own head
    logging.disable_progress_bar()
    try:
        with torch.inference_mode():
            tokenizer = AutoTokenizer.from_pretrained(where)
            model = AutoModel.from_pretrained(where, use_safetensors=True, dtype=torch.float32).eval()
            if model.config.is_encoder_decoder:
                model = model.get_encoder()
            tokens = [tokenizer(phrase(finding), return_tensors="pt") for finding in findings]
            means = [model(**inputs).last_hidden_state[0].mean(0) for inputs in tokens]
    except Exception as error:  # model classes, the hub client and safetensors each raise their own
        raise RecipeError(
            f"model.label_text {where!r} cannot be read ({first_line(error)}). Give "
            "the folder of a transformers text model (config.json, tokenizer files and model.safetensors), or an "
            "existing hub id such as sentence-transformers/all-MiniLM-L6-v2. Offline: download the model elsewhere and "
            "give its folder; or leave model.label_text out to start label embeddings at random."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if progress:
            logging.enable_progress_bar()
    return functional.normalize(torch.stack(means).clone(), dim=-1)
