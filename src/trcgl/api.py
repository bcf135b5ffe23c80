"""The functions of `import trcgl` that combine several packages: short names and keyword settings for notebooks."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trcgl.core.errors import RecipeError
from trcgl.core.recipe import ModelRecipe, Recipe, overridden
from trcgl.core.registry import unknown
from trcgl.dataset.prepare import PrepareOptions
from trcgl.dataset.prepare import prepare as prepare_folder
from trcgl.dataset.sources import SOURCES
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.model.label_graph import build_adjacency
from trcgl.model.label_text import finding_vectors
from trcgl.model.trcgl_net import TrcglNet
from trcgl.recipes import RECIPES
from trcgl.training.losses import LOSSES
from trcgl.training.losses.base import KnownMean
from trcgl.training.train import train as train_folder


def prepare(source: str, out: str | Path, *, root: str | Path | None = None, **settings: Any) -> Dataset:
    """Prepare a dataset folder, as `trcgl prepare` does, and open it.

        dataset = trcgl.prepare("phantom", "phantoms", train_images=500, size=64)

    Args:
        source: name of a source, such as `nih`, `table` or `phantom`.
        out: the dataset folder to write. A finished one of the same settings is opened.
        root: folder of the archive; not needed for phantoms.
        **settings: options that `trcgl prepare SOURCE --help` lists, without `--` and without `source.`; an option
            that exists with and without `source.` (`size` of phantoms) is given once.

    Returns:
        The opened dataset.

    Raises:
        DataError: the archive or its table cannot be used, or the disk is full.
        RecipeError: the source or a setting is unknown, or the folder was prepared with other settings.
    """
    if source not in SOURCES:
        raise RecipeError(unknown("source", source, SOURCES))
    options = [PrepareOptions(), importlib.import_module(SOURCES[source]).Options()]
    names = [vars(option).keys() for option in options]
    for name in settings:
        if name not in names[0] | names[1]:
            raise RecipeError(unknown(f"setting of {source}", name, sorted(names[0] | names[1])))
    shared, own = (
        overridden(option, {name: settings[name] for name in settings.keys() & vars(option)}) for option in options
    )
    prepare_folder(source, Path(root) if root else None, Path(out), shared, own)
    return open_dataset(Path(out))


def create_recipe(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Build the settings of an experiment, with some of them changed.

        recipe = trcgl.create_recipe("phantom", {"model.head": "csra", "train.epochs": 2})

    Args:
        name: name of a recipe, as `trcgl train --recipe` takes it.
        changes: path of a field to its value.

    Raises:
        RecipeError: the recipe or a field is unknown, or a value has the wrong type.
    """
    if name not in RECIPES:
        raise RecipeError(unknown("recipe", name, RECIPES))
    return overridden(RECIPES[name](), changes or {})


def create_model(
    name_or_recipe: str | ModelRecipe | Recipe,
    *,
    findings: int | Sequence[str],
    cooccurrence: Float[Tensor, "findings findings"] | Float[np.ndarray, "findings findings"] | None = None,
    **settings: Any,
) -> TrcglNet:
    """Build a network: any backbone of timm with any head.

        network = trcgl.create_model("resnet18", findings=14, head="csra")
        logits, maps, _ = network(torch.rand(2, 1, 224, 224))     # (2, 14), (2, 14, 7, 7)

    The forward pass takes gray images (B, 1, H, W) in [0, 1] and returns a `HeadOutput`: logits (B, C), and attention
    maps (B, C, h, w) or None where the head has none.

    Args:
        name_or_recipe: name of a timm model, which starts from random weights; or name of a recipe such as `trcgl`,
            whose weights it starts from; or a recipe.
        findings: number of findings C, or their names in the order of the logits.
        cooccurrence: P(j|i) in row i (C, C), from training rows only, for heads with a label graph; None leaves the
            graph without edges.
        **settings: fields of the recipe's model by name, such as `head`, `weights` (`hub`, `none` or a safetensors
            file), `image_size`, `output_stride`, `learn_gates`.

    Raises:
        RecipeError: the backbone, the head or a setting does not exist, or settings contradict each other.
        CheckpointError: the initial weights cannot be loaded.
    """
    if isinstance(name_or_recipe, str):
        known = name_or_recipe in RECIPES
        name_or_recipe = RECIPES[name_or_recipe]() if known else ModelRecipe(backbone=name_or_recipe)
    recipe = name_or_recipe.model if isinstance(name_or_recipe, Recipe) else name_or_recipe
    recipe = overridden(recipe, settings)
    count = findings if isinstance(findings, int) else len(findings)
    vectors = None
    if recipe.label_text is not None:
        if isinstance(findings, int):
            raise RecipeError("model.label_text needs the names of the findings. Give findings as a list of names.")
        vectors = finding_vectors(recipe.label_text, findings)
    conditional = torch.zeros(count, count) if cooccurrence is None else torch.as_tensor(cooccurrence)
    return TrcglNet(recipe, count, build_adjacency(conditional, recipe), vectors=vectors)


def create_loss(name: str, labels: Float[np.ndarray, "rows findings"], **settings: Any) -> KnownMean:
    """Build a loss by name.

        loss = trcgl.create_loss("asl", train.labels, gamma_negative=2.0)
        loss(network(image).logits, label).backward()            # (B, C), (B, C) with NaN unknown -> scalar

    Args:
        name: name of a built-in or registered loss, such as `bce`, `focal`, `asl` or `distribution_balanced`.
        labels: labels of the training rows (N, C): 1 present, 0 absent, NaN unknown. Losses that weight findings count
            positives and known labels.
        **settings: settings of the loss by name.

    Returns:
        A module that maps logits (B, C) and labels (B, C) to the mean loss over known labels.

    Raises:
        RecipeError: the loss or a setting is unknown, or a value has the wrong type.
    """
    kind = LOSSES[name]
    positives, known = torch.from_numpy((labels == 1).sum(0)), torch.from_numpy((~np.isnan(labels)).sum(0))
    return KnownMean(kind(overridden(kind.Settings(), settings), positives, known))


def train(
    dataset: Dataset | str | Path,
    out: str | Path,
    recipe: str | Recipe = "trcgl",
    changes: Mapping[str, Any] | None = None,
    *,
    synthetic: str | Path | None = None,
) -> dict[str, Any]:
    """Train a classifier into a run folder, as `trcgl train` does. The same call again resumes an interrupted run.

        trcgl.train(dataset, "run", "phantom", {"train.epochs": 2})

    Args:
        dataset: a dataset or its folder.
        out: the run folder to write.
        recipe: name of a recipe, or a recipe.
        changes: path of a field of the recipe to its value.
        synthetic: folder of synthetic images that `trcgl synthesize` made for the dataset.

    Returns:
        The content of `run.json`; `best` has the best epoch and its mAP on val.

    Raises:
        RecipeError: a setting is wrong, the folder belongs to another run, or training diverged.
        DataError: the dataset or the synthetic images cannot be used, or the disk is full.
        CheckpointError: initial weights, or the checkpoint to resume from, cannot be read.
        Interrupted: a signal asked to stop; the state is saved.
    """
    folder = dataset.folder if isinstance(dataset, Dataset) else Path(dataset)
    settings = create_recipe(recipe, changes) if isinstance(recipe, str) else overridden(recipe, changes or {})
    return train_folder(folder, settings, Path(out), Path(synthetic) if synthetic else None)
