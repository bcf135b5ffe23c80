"""Arms of a study: a recipe that differs from a base in what the arm is about, and in nothing else.

Data, image size, number of steps, batch size, augmentation, selection rule and every other setting are the base's.
"""

from collections.abc import Callable, Mapping, Sequence
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

Changes = Mapping[str, Any]
"""Recipe fields by path."""


@dataclass(frozen=True)
class Arm:
    """One thing to compare.

    Args:
        name: on the command line and in the table; also the name of its folder.
        changes: in which fields it differs from the base; or a function of the base that says so.
        reference: where it was published.
        differs: how it differs from the original; empty if it does not.
        drawn: what trains beside the real images: nothing, the drawn images of the study (`drawn`), as many copies of
            the real images that they were drawn for (`copies`), or one of the folders of the plan, by its name.
    """

    name: str
    changes: Changes | Callable[[Recipe], Changes] = field(default_factory=dict)
    reference: str = ""
    differs: str = ""
    drawn: str = ""

    def recipe(self, base: Recipe, seed: int) -> Recipe:
        """The recipe of one run.

        Raises:
            RecipeError: the arm has another backbone, and the base's initial weights are a file for its own.
        """
        changes = self.changes(base) if callable(self.changes) else self.changes
        backbone = changes.get("model.backbone", base.model.backbone)
        if backbone != base.model.backbone and base.model.weights not in ("hub", "none"):
            raise RecipeError(
                f"{self.name} has the backbone {backbone}, but model.weights is a file for {base.model.backbone}. "
                "Leave it out of --arms, or give --model.weights hub or none, so that all start alike."
            )
        return overridden(base, {**changes, "seed": base.seed + seed})


SMALL = 160
"""Images of fewer pixels get a finer map than the backbone's own stride of 32 would leave."""
GENTLE = 5e-4
"""The largest learning rate that LayerNorm networks bear; a small ResNet from scratch bears 4e-3."""


def _backbone(name: str, model: str, reference: str, *, fine: Changes | None = None, gentle: bool = False) -> Arm:
    """A timm backbone under a linear layer.

    Args:
        name: of the arm.
        model: timm's name.
        reference: where it was published.
        fine: changes on small images.
        gentle: cap the learning rates.
    """

    def changes(base: Recipe) -> Changes:
        made = {
            **PLAIN,
            "model.backbone": model,
            "model.output_stride": None,
            "model.patch_size": None,
            "train.frozen_stages": None,
        }
        if base.model.image_size < SMALL:
            made |= fine or {}
        if gentle:
            made["train.backbone_lr"] = min(base.train.backbone_lr, GENTLE)
            made["train.head_lr"] = min(base.train.head_lr, GENTLE)
        return made

    differs = "Image size, schedule and kind of initial weights are the base's" + (
        f"; finer maps below {SMALL} pixels." if fine else "."
    )
    return Arm(name, changes, reference, differs)


_STRIDE_16: Changes = {"model.output_stride": 16}
_PATCH_8: Changes = {"model.patch_size": 8}
_PATCH_2: Changes = {"model.patch_size": 2}

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
        _backbone("resnet50", "resnet50", "He et al. 2016", fine=_STRIDE_16),
        _backbone("densenet121", "densenet121", "Huang et al. 2017; CheXNet, Rajpurkar et al. 2017"),
        _backbone("efficientnet_b0", "efficientnet_b0", "Tan & Le 2019", fine=_STRIDE_16),
        _backbone("convnext_tiny", "convnext_tiny", "Liu et al. 2022", fine=_STRIDE_16, gentle=True),
        _backbone("convnext_atto", "convnext_atto", "Liu et al. 2022; timm", fine=_STRIDE_16, gentle=True),
        _backbone("convnextv2_tiny", "convnextv2_tiny", "Woo et al. 2023", fine=_STRIDE_16, gentle=True),
        _backbone("convnextv2_atto", "convnextv2_atto", "Woo et al. 2023", fine=_STRIDE_16, gentle=True),
        _backbone("vit_small", "vit_small_patch16_224", "Dosovitskiy et al. 2021", fine=_PATCH_8, gentle=True),
        _backbone("vit_tiny", "vit_tiny_patch16_224", "Dosovitskiy et al. 2021", fine=_PATCH_8, gentle=True),
        _backbone("swin_tiny", "swin_tiny_patch4_window7_224", "Liu et al. 2021", fine=_PATCH_2, gentle=True),
        Arm(
            "focal", {**PLAIN, "loss.name": "focal"}, "Lin et al. 2017", "Per finding, with γ = 2 and no class weight."
        ),
        Arm(
            "asl",
            {**PLAIN, "loss.name": "asl"},
            "Ridnik et al. 2021",
            "γ+ = 0, γ- = 4, clip = 0.05 unless the base says otherwise.",
        ),
        Arm(
            "published_margin",
            {**PLAIN, "loss.name": "published_margin"},
            "TRCGL-Net, arXiv 2607.00975",
            "The loss alone.",
        ),
        Arm(
            "class_balanced",
            {**PLAIN, "train.sampler": "class_balanced"},
            "Shen et al. 2016",
            "A finding is drawn first, then one of its images; an epoch has as many places as rows.",
        ),
        Arm(
            "repeat_factor",
            {**PLAIN, "train.sampler": "repeat_factor"},
            "Gupta et al. 2019 (LVIS)",
            "Per image; an epoch is cut to as many places as rows.",
        ),
        Arm("mixup", {**PLAIN, "augment.mixup": 0.4}, "Zhang et al. 2018", "α = 0.4; a batch is mixed in pairs."),
        Arm("drawn", {}, "TRCGL-Net, arXiv 2607.00975", "The base recipe with the images of --synthetic.", "drawn"),
        Arm(
            "duplicated",
            {},
            "Pink & Sykes 2026 (PMLR 318)",
            "The base recipe; each image of --synthetic is replaced by a copy of the real one it was drawn for.",
            "copies",
        ),
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
    arms = (
        tuple(known[one] for one in names) if names else tuple(one for one in known.values() if drawn or not one.drawn)
    )
    if lacking := [one.name for one in arms if one.drawn and not drawn]:
        raise RecipeError(f"{lacking[0]} trains with drawn images: give their folder as --synthetic.")
    return arms
