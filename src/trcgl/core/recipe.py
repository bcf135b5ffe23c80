"""Everything that decides an outcome, as frozen dataclasses: one per stage, `Recipe` holds them all.

A recipe is built by a function in `trcgl.recipes`, overridden by path on the command line
(`--train.epochs 5`) and stored in the run folder as `recipe.json`.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trcgl.core.errors import RecipeError

RENAMED_FIELDS = {"train.sampler": "train.row_sampling", "fit.sampler": "fit.row_sampling"}
"""Path of a field in a recipe.json of an earlier version to its path now."""

UNUSED_GATE = 0.01
"""A gate nearer to 0 leaves its module unused."""


@dataclass(frozen=True)
class ModelRecipe:
    """The network (TRCGL-Net, Figure 1)."""

    backbone: str = "convnextv2_base.fcmae_ft_in22k_in1k"
    """Name of any timm model that can return a feature map."""
    weights: str = "none"
    """`hub` (timm's weights for that name), a path to a safetensors file, or `none`."""
    image_size: int = 224
    """Side of the square input, in pixels."""
    output_stride: int | None = None
    """Ask timm for this stride (8, 16 or 32) where the backbone can; `None` keeps its own."""
    patch_size: int | None = None
    """Patch of the stem; 1 gives a ConvNeXt stride 8 (2 keeps 32: timm then halves once more). `None` keeps its own."""
    drop_path: float = 0.0
    """Stochastic depth of the backbone."""
    dropout: float = 0.0
    """Dropout on the features before the classifier, and in transformer layers of a head."""
    head: str = "trcgl"
    """`linear`, `trcgl`, `csra`, `ml_decoder`, `ml_gcn`, `query2label`, `chexgcn`, `dualattnet`, `clarity` or
    `experts`."""
    reweighting_gate: float = 0.05
    """gamma: weight of channel reweighting; the start value where `learn_gates` is set."""
    attention_gate: float = 0.1
    """lambda: weight of the attention logit of `trcgl` and `csra`."""
    graph_gate: float = 0.05
    """mu: weight of the label-graph logit."""
    learn_gates: bool = False
    """Train the gates with the network and log them."""
    switched_off: tuple[Literal["reweighting", "attention", "graph"], ...] = ()
    """Modules whose gate is 0 and stays there, whatever the fields above say; for ablations."""
    reduction: int = 16
    """Reduction r of the bottleneck of `trcgl` and `dualattnet`."""
    attention_temperature: float = 1.0
    """tau of the spatial softmax of `trcgl` and `dualattnet`."""
    label_embedding: int = 256
    """Width of random label embeddings E, of the hidden graph layer, and of transformer layers in a head."""
    label_text: str | None = None
    """A `transformers` text model (folder or hub id) that E starts from; `None` starts E at random."""
    learn_embeddings: bool = True
    """Train the label embeddings E (queries, class tokens); off keeps them as they start."""
    graph: Literal["symmetric", "ml_gcn", "identity", "learned"] = "symmetric"
    """Label graph: mean of P(j|i) and P(i|j); P(j|i) made binary, as ML-GCN; no edges; or attention among E."""
    graph_threshold: float = 0.02
    """Conditional co-occurrence below this is no edge (0.4 in ML-GCN)."""
    graph_share: float = 0.2
    """p of `ml_gcn`: what a finding takes from its neighbors together."""
    attention_heads: int = 4
    """Attention heads of `csra`, `ml_decoder`, `query2label` and `clarity`."""
    attention_blocks: int = 2
    """Transformer layers of `query2label` and `clarity`."""
    queries: int | None = None
    """Group queries of `ml_decoder`; `None` gives each finding its own."""


@dataclass(frozen=True)
class LossRecipe:
    """What is minimized."""

    name: str = "bce"
    """Name of a loss in `trcgl.training.losses.losses.LOSSES`."""
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    """Focusing exponent of `focal`."""
    gamma_negative: float = 4.0
    """Focusing exponent of `asl` on negatives."""
    gamma_positive: float = 0.0
    """Focusing exponent of `asl` on positives."""
    clip: float = 0.05
    """Probability shift m of `asl` on negatives."""
    beta: float = 0.9999
    """beta of the effective number of samples (Cui et al. 2019): `published_margin`, `class_balanced`, `ldam`."""
    weight_power: float = 0.5
    """Power of the effective-number weights of `published_margin`; it is 1 in the other two."""
    max_margin: float = 0.2
    """Largest positive margin of `published_margin` and `ldam` (0.5 in the original of the latter)."""
    margin_scale: float = 1.0
    """s by which `ldam` multiplies logits in training."""
    defer: float = 0.8
    """Share of the optimizer steps after which `ldam` weighs findings by their effective number; 1: never."""
    tau: float = 1.0
    """Factor of the log-odds of `logit_adjusted`."""
    rebalance_floor: float = 0.1
    """alpha, the smallest weight of `distribution_balanced`."""
    rebalance_slope: float = 10.0
    """beta, how sharply the weights of `distribution_balanced` rise."""
    rebalance_center: float = 0.2
    """mu, around which ratio the weights of `distribution_balanced` rise."""
    negative_tolerance: float = 2.0
    """lambda of `distribution_balanced`: how soon a negative is let go."""
    tolerance_shift: float = 0.05
    """kappa of `distribution_balanced`: share of a finding's log-odds by which its logit is moved."""
    unknown_weight: float = 0.1
    """alpha of `entropy_maximization`: weight of unknown labels beside known ones."""


@dataclass(frozen=True)
class AugmentRecipe:
    """Random changes of a training image; every magnitude is a half-range around no change."""

    rotation: float = 7.0
    """Degrees."""
    translation: float = 0.05
    """Fraction of the image side."""
    scale: float = 0.1
    """Fraction."""
    brightness: float = 0.1
    """Fraction of the full range, added."""
    contrast: float = 0.1
    """Fraction, multiplied around the image mean."""
    erasing: float = 0.0
    """Probability that a rectangle of 2-10 % of the image is set to the image mean."""
    mixup: float = 0.0
    """alpha of the Beta distribution by which two images and their labels are mixed (Zhang et al. 2018); 0: not."""
    horizontal_flip: bool = False
    """Off by default: findings are lateralized (heart, aortic arch, gastric bubble)."""


@dataclass(frozen=True)
class TrainRecipe:
    """Optimization, selection and hardware."""

    epochs: int = 30
    """Passes over the training split; an epoch has ceil(rows / batch_size) steps whatever the sampler."""
    batch_size: int = 32
    """Images per optimizer step on all devices together, before accumulation."""
    accumulate: int = 1
    """Batches per optimizer step."""
    head_warmup_epochs: int = 0
    """Epochs in which the backbone is frozen."""
    frozen_stages: int | None = None
    """The stem and this many stages of the backbone keep their initial weights throughout; `None` trains them all."""
    backbone_lr: float = 1e-4
    head_lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    """Steps of linear learning-rate warm-up before the cosine."""
    clip_gradient: float = 1.0
    """Largest gradient norm; 0 switches clipping off."""
    ema: float = 0.0
    """Decay of the exponential moving average of the weights; 0 switches it off."""
    retrain_epochs: int = 0
    """The last so many epochs retrain the head alone, from new weights and with class-balanced sampling."""
    row_sampling: Literal["natural", "class_balanced", "repeat_factor"] = "natural"
    """Which rows an epoch shows: every row once, rows of rare findings as often as others (class_balanced), or rare
    rows repeated (repeat_factor, Gupta et al. 2019)."""
    repeat_threshold: float = 0.01
    """T of repeat-factor sampling (Gupta et al. 2019)."""
    repeat_cap: float = 10.0
    """Largest repeat factor."""
    patience: int = 0
    """Epochs without a better val mAP before training stops; 0 switches early stopping off."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    devices: int | Literal["auto"] = "auto"
    nodes: int = 1
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    workers: int = 0
    """Processes that read the store; the memory-mapped store rarely needs any."""
    with_none: bool = False
    """Let rows about which the label space says nothing take part."""
    half: Literal["none", "first", "second"] = "none"
    """Train on one half of the train patients alone, so that two runs share none."""
    save_steps: int = 0
    """Save a resumable checkpoint every so many steps besides the end of each epoch; 0 switches it off."""


@dataclass(frozen=True)
class SyntheticRecipe:
    """How drawn images take part, where `--synthetic` names some. An epoch has the steps of the real rows alone."""

    weight: float = 0.5
    """Weight of a drawn row's labels in the loss; that of a real row's is 1. At 0 no drawn row is shown."""
    warmup: int | None = None
    """Epochs of real rows alone at the start of `mix`; `None` takes train.head_warmup_epochs."""
    schedule: Literal["mix", "pretrain"] = "mix"
    """`mix`: drawn rows among the real ones. `pretrain`: drawn rows alone first, then real ones alone."""
    pretrain_share: float = 0.3
    """Share of the epochs that `pretrain` gives to drawn rows."""
    dose: float | None = None
    """Kept images drawn for a finding ÷ its real training images; `None` takes all that were kept."""


@dataclass(frozen=True)
class EvaluateRecipe:
    """How a run is judged."""

    replicates: int = 2000
    """Patient-bootstrap replicates."""
    bootstrap_seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """One experiment: what `trcgl train` needs besides a dataset."""

    name: str = "trcgl"
    """Name of the function in `trcgl.recipes` that built it."""
    seed: int = 0
    model: ModelRecipe = field(default_factory=ModelRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    synthetic: SyntheticRecipe = field(default_factory=SyntheticRecipe)
    evaluate: EvaluateRecipe = field(default_factory=EvaluateRecipe)


def overridden(recipe: Any, changes: Mapping[str, Any]) -> Any:
    """A recipe with some fields set by their paths, for instance `{"model.head": "linear", "train.epochs": 5}`.

    Raises:
        RecipeError: a field is unknown, or a value of the wrong type.
    """
    tree = dataclasses.asdict(recipe)
    if unknown := sorted(changes.keys() - _flatten(tree).keys()):
        raise RecipeError(f"recipe fields unknown: {', '.join(unknown)}")
    for path, value in changes.items():
        *parts, name = path.split(".")
        place = tree
        for part in parts:
            place = place[part]
        place[name] = value
    return _build(type(recipe), tree, "")


def to_json(recipe: Any) -> str:
    """A recipe (or any of its parts) as indented JSON with a stable field order."""
    return json.dumps(dataclasses.asdict(recipe), indent=2) + "\n"


def from_json(text: str, kind: type = Recipe) -> Any:
    """The inverse of `to_json`; a field that is not stored has its default.

    Raises:
        RecipeError: a field is unknown or of the wrong type; the message names its path.
    """
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecipeError(f"the recipe is not valid JSON: {error}") from error
    return _build(kind, _renamed(raw), "")


def differences(left: Any, right: Any) -> list[str]:
    """`path: left → right` for every field in which two recipes differ."""
    flat_left, flat_right = _flatten(dataclasses.asdict(left)), _flatten(dataclasses.asdict(right))
    return [
        f"{path}: {flat_left[path]} → {flat_right[path]}" for path in flat_left if flat_left[path] != flat_right[path]
    ]


def _renamed(raw: Any) -> Any:
    """A recipe of an earlier version under the names of this one."""
    for old, new in RENAMED_FIELDS.items():
        (part, before), (_, after) = old.split("."), new.split(".")
        if isinstance(raw, dict) and isinstance(raw.get(part), dict) and before in raw[part]:
            values = {name: value for name, value in raw[part].items() if name != before}
            raw = {**raw, part: {**values, after: raw[part][before]}}
    return raw


def _build(kind: type, raw: Any, path: str) -> Any:
    if not isinstance(raw, dict):
        raise RecipeError(f"recipe field {path or 'at the top'}: expected an object, found {raw!r}")
    hints = typing.get_type_hints(kind)
    names = {one.name for one in dataclasses.fields(kind)}
    if unknown := sorted(raw.keys() - names):
        raise RecipeError(f"recipe fields unknown: {', '.join(path + name for name in unknown)}")
    values = {}
    for name, value in raw.items():
        hint = hints[name]
        if typing.get_origin(hint) is tuple and isinstance(value, list):  # JSON has no tuples
            value = tuple(value)
        if dataclasses.is_dataclass(hint):
            values[name] = _build(typing.cast(type, hint), value, f"{path}{name}.")
        elif not _fits(value, hint):
            raise RecipeError(f"recipe field {path}{name}: {value!r} is not {_spell(hint)}")
        else:
            values[name] = float(value) if hint is float else value
    return kind(**values)


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(hint))
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(one, typing.get_args(hint)[0]) for one in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _spell(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _flatten(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{path}{name}.")
        else:
            flat[path + name] = value
    return flat
