"""Whether a pretrained pipeline is of the kind that trcgl adapts: Stable Diffusion 1.x or 2.x, or fine-tuned from them.

A base brings its own latent scale, prediction type, noise schedule and text-encoder conventions (activation, number of
layers, padding token). All are read from its files and kept.
"""

from typing import Any

from diffusers import StableDiffusionPipeline

from trcgl.core.errors import CheckpointError

DOCUMENTED_BASE = "stable-diffusion-v1-5/stable-diffusion-v1-5"
_CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "SpaceToDepth"),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
_IGNORED = ("scheduler", "safety_checker", "feature_extractor", "image_encoder")  # the scheduler is checked once open
_CONDITIONS = ("time_cond_proj_dim", "class_embed_type", "encoder_hid_dim_type", "num_class_embeds")


def check_parts(where: str, revision: str | None) -> None:
    """Refuse a pipeline with parts that trcgl does not train, by its `model_index.json`.

    Raises:
        CheckpointError: a part is missing, of another class, or unknown; the message names it.
        OSError: the pipeline is not found.
    """
    index = StableDiffusionPipeline.load_config(where, revision=revision)
    parts = {name: entry[1] for name, entry in index.items() if isinstance(entry, (list, tuple)) and entry[1]}
    for name, classes in _CLASSES.items():
        if name not in parts:
            _refuse(where, f"its model_index.json names no {name}")
        if parts[name] not in classes:
            _refuse(where, f"its {name} is a {parts[name]}, not a {classes[0]}")
    if unknown := sorted(set(parts) - set(_CLASSES) - set(_IGNORED)):
        _refuse(where, f"it has the part {unknown[0]} ({parts[unknown[0]]})")


def check_conditions(where: str, unet: dict[str, Any], scheduler: dict[str, Any]) -> None:
    """Refuse a U-Net that needs more than noise level and text, and a schedule that is not one of betas."""
    if unet["addition_embed_type"] not in (None, "text"):
        _refuse(where, f"its U-Net needs the condition {unet['addition_embed_type']} (addition_embed_type)")
    if extra := [name for name in _CONDITIONS if unet.get(name) is not None]:
        _refuse(where, f"its U-Net needs another condition than text ({extra[0]})")
    if "beta_schedule" not in scheduler:
        _refuse(where, f"its scheduler {scheduler.get('_class_name', '')} has no schedule of betas")


def _refuse(where: str, why: str) -> None:
    raise CheckpointError(
        f"base {where!r}: {why}. trcgl adapts pipelines of the kind of Stable Diffusion 1.x and 2.x, such as "
        f"{DOCUMENTED_BASE}; Stable Diffusion XL and 3 are of another kind."
    )
