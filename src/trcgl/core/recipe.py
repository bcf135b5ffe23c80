"""All settings of an experiment as frozen dataclasses; the docstring of a field is its help on the command line.

A recipe is built by a function in `trcgl.recipes`, overridden by path on the command line (`--train.epochs 5`) and
stored in the run folder as `recipe.json`.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import getitem
from typing import Any, Literal

from trcgl.core.build_recipe import build, refuse_unknown
from trcgl.core.errors import RecipeError
from trcgl.core.field_types import flatten
from trcgl.core.loss_settings import FIELDS_OF_0_1, LossSettings, settings_class
from trcgl.core.older_recipes import RENAMED_FIELDS, of_today

View = Literal["frontal", "lateral", "other"]

UNUSED_GATE = 0.01
"""A module whose gate is nearer to 0 than this has no effect worth mentioning."""


@dataclass(frozen=True)
class ModelRecipe:
    """Settings of the network (TRCGL-Net, Figure 1)."""

    backbone: str = "convnextv2_base.fcmae_ft_in22k_in1k"
    """Name of a timm model that can return a feature map."""
    weights: str = "none"
    """Initial weights of the backbone: `hub` (timm's weights for that name), `none`, a weights file, or the folder of a
    run, of an exported model or of a Hugging Face model."""
    pixel_mean: float | None = None
    """Mean of the gray values (0 to 1) that the initial weights expect; default: as stored with the weights, or as in
    timm's configuration of the backbone."""
    pixel_std: float | None = None
    """Standard deviation of the gray values that the initial weights expect; default: as for `pixel_mean`."""
    image_size: int = 224
    """Side of the square input in pixels."""
    output_stride: int | None = None
    """Output stride of the backbone (8, 16 or 32) where it can be chosen; default: the backbone's own."""
    patch_size: int | None = None
    """Patch size of the stem; 1 gives a ConvNeXt an output stride of 8. Default: the backbone's own."""
    feature_grid: int | None = None
    """Pool the feature map to this many rows and columns before the head; default: keep it."""
    drop_path: float = 0.0
    """Stochastic depth rate of the backbone."""
    dropout: float = 0.0
    """Dropout rate of the features before the classifier and in the transformer layers of `clarity`."""
    head_norm: Literal["none", "batch"] = "none"
    """Norm of the feature map before the head, trained with the head: `none` or `batch` norm."""
    head: str = "trcgl"
    """Head: `linear`, `trcgl`, `csra`, `ml_decoder`, `ml_gcn`, `query2label`, `chexgcn`, `dualattnet`, `clarity` or
    `experts`."""
    reweighting_gate: float = 0.05
    """Weight γ of channel reweighting; with `learn_gates`, the initial value of γ."""
    attention_gate: float = 0.1
    """Weight λ of the attention logit of `trcgl`; with `learn_gates`, the initial value of λ."""
    csra_gate: float = 0.5
    """Weight λ of the attention logit of `csra`; with `learn_gates`, the initial value of λ. The authors use 0.5 with 4
    attention heads (COCO), and 0.1 with 1 (VOC 2007)."""
    graph_gate: float = 0.05
    """Weight μ of the label-graph logit; with `learn_gates`, the initial value of μ."""
    learn_gates: bool = False
    """Train the gates (`reweighting_gate`, `attention_gate`, `csra_gate`, `graph_gate`) with the network and log
    them."""
    switched_off: tuple[Literal["reweighting", "attention", "graph"], ...] = ()
    """Modules to switch off for an ablation: their gates stay at 0, which overrides the gate settings."""
    reduction: int = 16
    """Reduction ratio r of the bottleneck of `trcgl` and `dualattnet`."""
    reweighting_bias: bool = True
    """Biases in the bottleneck of channel reweighting of `trcgl`."""
    attention_temperature: float = 1.0
    """Temperature τ of the spatial softmax of `trcgl` and `dualattnet`."""
    label_embedding: int = 256
    """Width of random label embeddings, of the hidden graph layer and of the transformer layers of a head."""
    embedding_std: float = 1.0
    """Standard deviation of random label embeddings of `trcgl`."""
    label_text: str | None = None
    """Text model (a `transformers` folder or hub id) that initializes the label embeddings; default: random."""
    learn_embeddings: bool = True
    """Train the label embeddings, queries and class tokens; off keeps their initial values."""
    graph: Literal["symmetric", "ml_gcn", "identity", "learned"] = "symmetric"
    """Label graph: `symmetric` (mean of P(j|i) and P(i|j)), `ml_gcn` (binary P(j|i)), `identity` (no edges) or
    `learned` (attention among the label embeddings)."""
    graph_threshold: float = 0.02
    """Smallest conditional co-occurrence that becomes an edge (0.4 in ML-GCN)."""
    graph_share: float = 0.2
    """Total weight p of a finding's neighbors in `ml_gcn`."""
    graph_smoothing: float = 0.0
    """Number added to the count of rows with finding i, the denominator of P(j|i); it weakens edges of rare
    findings."""
    graph_self_loop: float = 1.0
    """Weight of a finding's edge to itself in `symmetric`."""
    graph_activation: Literal["leaky_relu", "relu"] = "leaky_relu"
    """Activation between the two graph convolutions: `leaky_relu` (slope 0.2) or `relu`."""
    graph_dropout: float = 0.0
    """Dropout rate between the two graph convolutions."""
    cosine_scale: float | None = None
    """Fixed factor of the cosine in the label-graph logit of `trcgl`; default: learned, initially 10."""
    attention_heads: int = 4
    """Attention heads of `csra`, `ml_decoder`, `query2label` and `clarity`."""
    attention_blocks: int = 2
    """Transformer layers of `query2label` and `clarity`."""
    encoder_blocks: int = 1
    """Transformer layers over the feature map of `query2label`, before its decoder; 0: none."""
    decoder_dropout: float = 0.1
    """Dropout rate in the transformer layers of `ml_decoder` and `query2label`, attention weights included."""
    queries: int | None = None
    """Number of group queries of `ml_decoder`; default: one per finding, at most 100."""
    head_version: Literal["official", "0.2"] = "official"
    """Version of the heads `csra`, `ml_decoder`, `query2label` and `ml_gcn`: the code that their authors released, or
    trcgl 0.2, which deviates from it (docs/parity.md)."""


@dataclass(frozen=True)
class LossRecipe:
    """The loss and its own settings.

    Raises:
        RecipeError: `settings` belong to another loss, or a value is out of range.
    """

    name: str = "bce"
    """Loss: `bce`, `focal`, `asl`, `published_margin`, `ldam`, `class_balanced`, `distribution_balanced`,
    `logit_adjusted` or `entropy_maximization`."""
    label_smoothing: float = 0.0
    """Label smoothing ε of every loss: a known label y becomes y (1 - ε) + ε / 2."""
    settings: LossSettings = field(default_factory=LossSettings)
    """Settings of the named loss; default: its defaults."""
    reduction: Literal["mean", "sum"] = "mean"
    """Loss of a batch: `mean` over its known labels, weighted by image; or `sum` over the findings of an image, then
    mean over the images, which makes the gradient larger before it is clipped."""

    def __post_init__(self) -> None:
        expected = settings_class(self.name)
        if expected and type(self.settings) is LossSettings:
            object.__setattr__(self, "settings", expected())
        elif expected and not isinstance(self.settings, expected):
            raise RecipeError(f"loss.settings: {self.name} takes {expected.__name__}, found {self.settings}")


@dataclass(frozen=True)
class AugmentRecipe:
    """Random changes of training images."""

    rotation: float = 7.0
    """Rotate by up to this many degrees either way."""
    translation: float = 0.05
    """Shift by up to this fraction of the image side in each direction."""
    scale: float = 0.1
    """Enlarge or shrink by up to this fraction."""
    brightness: float = 0.1
    """Add or subtract up to this fraction of the gray range."""
    contrast: float = 0.1
    """Raise or lower the contrast by up to this fraction."""
    contrast_around: Literal["mean", "black"] = "mean"
    """Gray value that a change of contrast leaves as it is: the `mean` of the image, or `black`."""
    geometry_probability: float = 1.0
    """Probability that rotation, translation and scale change, together."""
    intensity_probability: float = 1.0
    """Probability that brightness and contrast change, together."""
    clahe: float = 0.0
    """Probability of contrast-limited adaptive histogram equalization (8 x 8 tiles, clip limit 1 to 2)."""
    noise: float = 0.0
    """Probability of Gaussian noise, with a variance of 1 to 5 (in squared gray levels of 255)."""
    holes: float = 0.0
    """Probability that six black squares hide parts of the image; their side is 24/224 of the image side."""
    erasing: float = 0.0
    """Probability that a rectangle of 2-10 % of the image is set to the image mean."""
    mixup: float = 0.0
    """Parameter α of the Beta distribution that mixes pairs of images and their labels (Zhang et al. 2018); 0: off."""
    horizontal_flip: bool = False
    """Mirror half of the images left to right. Off by default: heart, aortic arch and gastric bubble have a side."""


@dataclass(frozen=True)
class TrainRecipe:
    """Optimization, checkpoint selection and hardware."""

    epochs: int = 30
    """Passes over the training split; each has ceil(rows / batch_size) steps, unless `repeat_epoch` is whole."""
    batch_size: int = 32
    """Images per batch, on all devices together."""
    accumulate: int = 1
    """Batches per optimizer step."""
    head_warmup_epochs: int = 0
    """Number of epochs at the start that train only the head, with a frozen backbone."""
    head_warmup_lr: float | None = None
    """Constant learning rate of `head_warmup_epochs`, which are then a stage of their own: after it the optimizer, the
    schedule and the averages start anew, and only later epochs can be the best. Default: part of the schedule."""
    head_warmup_decay: float | None = None
    """Weight decay during `head_warmup_epochs` where `head_warmup_lr` is set; default: `weight_decay`."""
    frozen_mode: Literal["eval", "train"] = "eval"
    """Mode of a frozen backbone: `eval`, or `train` with stochastic depth, dropout and running statistics of norms."""
    frozen_backbone: bool = False
    """Train the head alone, on features of the frozen backbone that are computed once, without augmentation."""
    features: str | None = None
    """Folder that keeps the features of `frozen_backbone` for other runs; default: in the run folder, until the run is
    finished."""
    frozen_stages: int | None = None
    """Freeze the stem and this many stages of the backbone for the whole run; default: train everything."""
    backbone_lr: float = 1e-4
    """Peak learning rate of the backbone."""
    head_lr: float = 1e-3
    """Peak learning rate of the head."""
    weight_decay: float = 0.05
    """Weight decay of AdamW; norms, biases, gates and embeddings do not decay."""
    backbone_decay: float | None = None
    """Weight decay of the backbone; default: `weight_decay`."""
    decay_all: bool = False
    """Apply weight decay to norms, biases, gates and embeddings as well."""
    adam_eps: float = 1e-8
    """Constant ε of AdamW."""
    schedule: Literal["step", "epoch"] = "step"
    """Change the learning rate after every optimizer `step` or after every `epoch`."""
    warmup_steps: int = 100
    """Optimizer steps of linear learning-rate warm-up before the cosine decay, with `schedule` step."""
    warmup_epochs: int = 5
    """Epochs of linear learning-rate warm-up before the cosine decay, with `schedule` epoch."""
    lr_floor: float = 0.0
    """Smallest share of the peak learning rate that the cosine decay reaches."""
    clip_gradient: float = 1.0
    """Largest norm of the gradient; 0 turns clipping off."""
    ema: float = 0.0
    """Decay of the exponential moving average of the weights, which is validated and kept; 0 turns it off."""
    ema_warmup: bool = True
    """Let the decay of `ema` grow to its value over the first updates; off keeps it constant."""
    swa_epochs: int = 0
    """Number of epochs at the end over whose steps the weights are averaged equally (Izmailov et al. 2018), instead of
    `ema`; 0 turns it off."""
    retrain_epochs: int = 0
    """Number of epochs at the end that retrain the head from its initial weights, see `retrain_sampling`."""
    retrain_sampling: Literal["class_aware", "class_balanced"] = "class_aware"
    """Row sampling of `retrain_epochs`."""
    row_sampling: Literal["natural", "class_aware", "class_balanced", "repeat_factor"] = "natural"
    """Rows of an epoch: `natural` (every row once), `class_aware` (findings in turn, and the rows of each in turn;
    Shen et al. 2016), `class_balanced` (a random finding, then a random row of it) or `repeat_factor` (rows of rare
    findings repeated; Gupta et al. 2019)."""
    repeat_threshold: float = 0.01
    """Frequency T below which `repeat_factor` repeats the rows of a finding."""
    repeat_cap: float = 10.0
    """Largest repeat factor of a row."""
    repeat_frequency: Literal["rows", "labels"] = "rows"
    """Frequency of a finding in `repeat_factor`: its positives per row, or per positive label of all findings."""
    repeat_epoch: Literal["cut", "whole"] = "cut"
    """Epoch of `repeat_factor`: `cut` to as many rows as the split has, shuffled; or `whole`: all repeats of every
    row. Repeat factors are then rounded to whole numbers, repeats of a row follow each other, and an incomplete last
    batch is left out."""
    absent_findings: Literal["left_out", "zero"] = "left_out"
    """Findings without positives in val: `left_out` of val mAP, or with an AP of `zero`; both choose the same epoch."""
    patience: int = 0
    """Stop after this many epochs without a better val mAP; 0 turns early stopping off."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Floating-point precision of the network: `32-true`, `bf16-mixed` or `16-mixed`."""
    gradient_checkpointing: bool = False
    """Save memory by computing activations of the backbone again in the backward pass; about 30 % slower."""
    compile: bool = False
    """Compile the network with `torch.compile`: the first step takes minutes, later steps are faster on a GPU."""
    deterministic: bool = False
    """Use deterministic algorithms on a GPU, so that the same command gives the same weights bit for bit; slower. On
    CPUs that is always so."""
    devices: int | Literal["auto"] = "auto"
    """Devices per node, or `auto` for all of them; must match torchrun or SLURM where these start the processes."""
    nodes: int = 1
    """Number of machines."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Device: `gpu`, `cpu`, or `auto` for a GPU where there is one."""
    workers: int = 0
    """Worker processes that read images; the memory-mapped dataset rarely needs any."""
    with_none: bool = False
    """Include images without a known label."""
    views: tuple[View, ...] = ()
    """Views to train on and to choose the best epoch on: `frontal`, `lateral`, `other`; default: every image."""
    half: Literal["none", "first", "second"] = "none"
    """Half of the train patients to train on: `first`, `second`, or `none` for all. The halves share no patient."""
    save_steps: int = 0
    """Optimizer steps between two resumable checkpoints; 0 saves only at the end of each epoch."""
    logger: Literal["tensorboard", "csv", "mlflow", "wandb", "none"] = "tensorboard"
    """Additional log beside metrics.jsonl: `tensorboard`, `csv`, `mlflow`, `wandb` or `none`."""


@dataclass(frozen=True)
class SyntheticRecipe:
    """Use of the synthetic images of `--synthetic`. Without `pool`, the number of steps is the same without them."""

    weight: float = 0.5
    """Loss weight of a synthetic image's labels; a real image weighs 1. At 0 no synthetic image is used."""
    warmup: int | None = None
    """Number of epochs at the start that show real images only (`mix`), or in which synthetic images weigh 0 (`pool`);
    default: train.head_warmup_epochs."""
    schedule: Literal["mix", "pretrain", "pool"] = "mix"
    """`mix`: synthetic and real images together; `pretrain`: first synthetic images only, then real images only;
    `pool`: synthetic images are further rows of the training split, counted like real ones, and epochs are longer."""
    unrequested: Literal["unknown", "absent"] = "unknown"
    """Findings that a synthetic image was not generated for: `unknown`, and left out of the loss, or `absent`."""
    pretrain_share: float = 0.3
    """With `pretrain`, share of the epochs that show synthetic images only."""
    dose: float | None = None
    """For each finding, number of kept synthetic images per real training image; default: all kept images."""


@dataclass(frozen=True)
class EvaluateRecipe:
    """Settings of `trcgl evaluate`."""

    replicates: int = 2000
    """Number of bootstrap replicates; each resamples patients."""
    bootstrap_seed: int = 0
    """Random seed of the bootstrap."""
    threshold: float | None = None
    """Threshold of every finding for a single run, before its temperature; default: fitted on val for the best F1."""
    views: tuple[View, ...] = ()
    """Views to evaluate and to fit temperature and thresholds on: `frontal`, `lateral`, `other`; default: every
    image."""


@dataclass(frozen=True)
class Recipe:
    """Everything `trcgl train` needs besides a dataset."""

    name: str = "trcgl"
    """Name of the recipe; recorded in the run."""
    seed: int = 0
    """Random seed of initial weights, row sampling, augmentation and dropout."""
    model: ModelRecipe = field(default_factory=ModelRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    synthetic: SyntheticRecipe = field(default_factory=SyntheticRecipe)
    evaluate: EvaluateRecipe = field(default_factory=EvaluateRecipe)


def overridden(recipe: Any, changes: Mapping[str, Any]) -> Any:
    """A recipe with some fields replaced by their paths, for instance `{"model.head": "linear", "train.epochs": 5}`.

    Another `loss.name` starts from the default settings of that loss.

    Raises:
        RecipeError: a field is unknown, or a value has the wrong type or is out of range.
    """
    changes = {_path_now(path): value for path, value in changes.items()}
    if "loss.name" in changes and changes["loss.name"] != recipe.loss.name:
        loss = dataclasses.replace(recipe.loss, name=changes["loss.name"], settings=LossSettings())
        recipe = dataclasses.replace(recipe, loss=loss)
    tree = dataclasses.asdict(recipe)
    refuse_unknown(changes, flatten(tree))
    for path, value in changes.items():
        *parts, name = path.split(".")
        reduce(getitem, parts, tree)[name] = value
    return build(type(recipe), tree, "")


def to_json(recipe: Any) -> str:
    """A recipe (or any of its parts) as indented JSON with a stable field order."""
    return json.dumps(dataclasses.asdict(recipe), indent=2) + "\n"


def from_json(text: str, kind: type = Recipe) -> Any:
    """The inverse of `to_json`; fields that are not stored have their defaults, or what earlier versions did.

    Raises:
        RecipeError: the text is not JSON, or a field is unknown or of the wrong type; the message names its path.
    """
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecipeError(f"the recipe is not valid JSON: {error}") from error
    return build(kind, of_today(raw) if isinstance(raw, dict) else raw, "")


def differences(left: Any, right: Any) -> list[str]:
    """`path: left → right` for every field in which two recipes differ.

    Recipes with different losses have different settings; settings at their defaults are left out.
    """
    flat = [flatten(dataclasses.asdict(recipe)) for recipe in (left, right)]
    if flat[0].get("loss.name") != flat[1].get("loss.name"):
        for recipe, fields in zip((left, right), flat, strict=True):
            defaults = LossRecipe(recipe.loss.name).settings
            for path in [path for path in fields if path.startswith("loss.settings.")]:
                if fields[path] == getattr(defaults, path.rpartition(".")[2], None):
                    del fields[path]
    old, new = flat
    return [
        f"{path}: {old.get(path, 'default')} → {new.get(path, 'default')}"
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path)
    ]


def _path_now(path: str) -> str:
    part, _, name = path.partition(".")
    if part == "loss" and name in FIELDS_OF_0_1:
        return f"loss.settings.{name}"
    return RENAMED_FIELDS.get(path, path)
