"""Arms of a study: a recipe that differs from a base in what the arm is about, and in nothing else.

Data, image size, number of steps, batch size, augmentation, selection rule and every other setting are the base's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trcgl.core.errors import RecipeError
from trcgl.core.recipe import Recipe, overridden

PLAIN: Mapping[str, Any] = {
    "model.head": "linear",
    "loss.name": "bce",
    "loss.label_smoothing": 0.0,
    "train.sampler": "natural",
}
"""Global average pooling, a linear layer, binary cross-entropy, every row once an epoch."""

_FROM_SCRATCH: Mapping[str, Any] = {"train.frozen_stages": None, "train.head_warmup_epochs": 0}


@dataclass(frozen=True)
class Arm:
    """One thing to compare.

    Args:
        name: on the command line and in the table; also the name of its folder.
        changes: recipe fields, by path, in which it differs from the base.
        reference: where it was published.
        differs: how it differs from the original; empty if it does not.
        drawn: trains with the drawn images of the study, too.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""
    differs: str = ""
    drawn: bool = False

    def recipe(self, base: Recipe, seed: int) -> Recipe:
        """The recipe of one run.

        Raises:
            RecipeError: the arm has another backbone, and the base's initial weights are a file for its own.
        """
        backbone = self.changes.get("model.backbone", base.model.backbone)
        if backbone != base.model.backbone and base.model.weights not in ("hub", "none"):
            raise RecipeError(
                f"{self.name} has the backbone {backbone}, but model.weights is a file for {base.model.backbone}. "
                "Leave it out of --arms, or give --model.weights hub or none, so that all start alike."
            )
        return overridden(base, {**self.changes, "seed": base.seed + seed})


def _backbone(name: str, model: str, reference: str, **changes: Any) -> Arm:
    """A timm backbone under a linear layer; optimizer settings that its family needs are in `changes`."""
    settings = {"model.backbone": model, "model.output_stride": None, "model.patch_size": None}
    given = {path.replace("__", "."): value for path, value in changes.items()}
    return Arm(
        name,
        {**PLAIN, **_FROM_SCRATCH, **settings, **given},
        reference,
        "The base's initial weights (`hub` or `none`), image size and schedule; a finer map than at 224 px."
        if given.keys() & {"model.output_stride", "model.patch_size"}
        else "The base's initial weights (`hub` or `none`), image size and schedule.",
    )


_GENTLE: Mapping[str, Any] = {"train__backbone_lr": 5e-4, "train__head_lr": 5e-4}
"""What LayerNorm networks bear from scratch, where a small ResNet bears 4e-3."""

PEERS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("trcgl", {}, "TRCGL-Net, arXiv 2607.00975", "The base recipe as it is."),
        Arm("linear", PLAIN, "", "The base's backbone and nothing else: what every remedy has to beat."),
        Arm(
            "trcgl_published",
            {
                "model.head": "trcgl",
                "model.reweighting_gate": 0.05,
                "model.attention_gate": 0.1,
                "model.graph_gate": 0.05,
                "model.learn_gates": False,
                "model.graph_threshold": 0.02,
                "loss.name": "published_margin",
                "train.sampler": "repeat_factor",
                "train.repeat_threshold": 0.01,
            },
            "TRCGL-Net, arXiv 2607.00975",
            "Published gates, graph, loss and sampler; the base's backbone, schedule and augmentation.",
        ),
        _backbone("resnet50", "resnet50", "He et al. 2016", model__output_stride=16),
        _backbone("densenet121", "densenet121", "Huang et al. 2017; CheXNet, Rajpurkar et al. 2017"),
        _backbone("efficientnet_b0", "efficientnet_b0", "Tan & Le 2019", model__output_stride=16),
        _backbone("convnext_tiny", "convnext_tiny", "Liu et al. 2022", model__output_stride=16, **_GENTLE),
        _backbone("convnext_atto", "convnext_atto", "Liu et al. 2022; timm", model__output_stride=16, **_GENTLE),
        _backbone("convnextv2_tiny", "convnextv2_tiny", "Woo et al. 2023", model__output_stride=16, **_GENTLE),
        _backbone("convnextv2_atto", "convnextv2_atto", "Woo et al. 2023", model__output_stride=16, **_GENTLE),
        _backbone("vit_small", "vit_small_patch16_224", "Dosovitskiy et al. 2021", model__patch_size=8, **_GENTLE),
        _backbone("vit_tiny", "vit_tiny_patch16_224", "Dosovitskiy et al. 2021", model__patch_size=8, **_GENTLE),
        _backbone("swin_tiny", "swin_tiny_patch4_window7_224", "Liu et al. 2021", model__patch_size=2, **_GENTLE),
        Arm("focal", {**PLAIN, "loss.name": "focal"}, "Lin et al. 2017", "Per finding, with γ = 2 and no class weight."),
        Arm("asl", {**PLAIN, "loss.name": "asl"}, "Ridnik et al. 2021", "γ+ = 0, γ- = 4, clip = 0.05 unless the base says otherwise."),
        Arm("published_margin", {**PLAIN, "loss.name": "published_margin"}, "TRCGL-Net, arXiv 2607.00975", "The loss alone."),
        Arm("class_balanced", {**PLAIN, "train.sampler": "class_balanced"}, "Shen et al. 2016", "A finding is drawn first, then one of its images; an epoch has as many places as rows."),
        Arm("repeat_factor", {**PLAIN, "train.sampler": "repeat_factor"}, "Gupta et al. 2019 (LVIS)", "Per image; an epoch is cut to as many places as rows."),
        Arm("mixup", {**PLAIN, "augment.mixup": 0.4}, "Zhang et al. 2018", "α = 0.4; a batch is mixed in pairs."),
        Arm("drawn", {}, "TRCGL-Net, arXiv 2607.00975", "The base recipe with the images of --synthetic.", drawn=True),
    )
}
"""Name on the command line (`trcgl study peers --arms NAME ...`) to arm."""


def chosen(names: Sequence[str], known: Mapping[str, Arm], *, drawn: bool) -> tuple[Arm, ...]:
    """The arms of these names, in their order; all that can be made where none is named.

    Args:
        names: from the command line.
        known: the registry.
        drawn: whether the study has drawn images.

    Raises:
        RecipeError: a name is unknown or comes twice, or an arm needs drawn images that the study has not.
    """
    if unknown := [one for one in names if one not in known]:
        raise RecipeError(f"unknown arm {unknown[0]!r}; there are {', '.join(known)}.")
    if twice := [one for one in names if list(names).count(one) > 1]:
        raise RecipeError(f"--arms names {twice[0]!r} more than once.")
    arms = tuple(known[one] for one in names) if names else tuple(one for one in known.values() if drawn or not one.drawn)
    if lacking := [one.name for one in arms if one.drawn and not drawn]:
        raise RecipeError(f"{lacking[0]} trains with drawn images: give their folder as --synthetic.")
    return arms
