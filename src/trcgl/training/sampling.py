"""Which training rows an epoch shows, in which order: pure functions of (labels, seed, epoch).

An epoch shows as many rows as there are real ones, whatever the sampler, so that epochs of two samplers cost the same,
and so do epochs with and without drawn rows.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from trcgl.core.errors import RecipeError
from trcgl.core.randomness import generator
from trcgl.core.recipe import Recipe, TrainRecipe

Sampler = Callable[[int], Int[np.ndarray, " rows"]]
"""Epoch to row numbers."""


def natural(rows: int, seed: int, epoch: int) -> Int[np.ndarray, " rows"]:
    """Every row once, shuffled."""
    return generator(seed, "sampling", epoch).permutation(rows)


def class_balanced(labels: Float[np.ndarray, "rows findings"], seed: int, epoch: int) -> Int[np.ndarray, " rows"]:
    """Draw a finding uniformly among those with positives, then one of its positives uniformly.

    Raises:
        RecipeError: no row has a finding.
    """
    positives = [rows for rows in (np.flatnonzero(column == 1) for column in labels.T) if len(rows)]
    if not positives:
        raise RecipeError("train.row_sampling class_balanced: no training row has a finding. Choose natural.")
    draw = generator(seed, "sampling", epoch)
    finding = draw.integers(len(positives), size=len(labels))
    place = draw.random(len(labels))
    return np.array([positives[one][int(u * len(positives[one]))] for one, u in zip(finding, place, strict=True)])


def repeat_factors(
    labels: Float[np.ndarray, "rows findings"], threshold: float, cap: float
) -> Float[np.ndarray, " rows"]:
    """How often a row is shown on average: r_i = max over its findings c of min(cap, max(1, sqrt(T / f_c))).

    Source: Gupta, Dollár & Girshick 2019 (LVIS), appendix B; f_c is the fraction of rows with finding c.
    """
    present = labels == 1
    fraction = np.maximum(present.mean(0), 1 / max(len(labels), 1))
    of_finding = np.clip(np.sqrt(threshold / fraction), 1, cap)
    return np.where(present, of_finding, 1.0).max(1)


def repeat_factor(
    labels: Float[np.ndarray, "rows findings"], threshold: float, cap: float, seed: int, epoch: int
) -> Int[np.ndarray, " rows"]:
    """Rows repeated by `repeat_factors`, rounded at random so that the mean is exact, shuffled, cut to an epoch."""
    factors = repeat_factors(labels, threshold, cap)
    draw = generator(seed, "sampling", epoch)
    repeats = np.floor(factors + draw.random(len(factors))).astype(np.int64)
    return draw.permutation(np.repeat(np.arange(len(factors)), repeats))[: len(factors)]


def sampler(recipe: TrainRecipe, labels: Float[np.ndarray, "rows findings"], seed: int) -> Sampler:
    """The sampler of a recipe over the labels of the training rows (NaN where unknown); retraining has its own."""
    makers: dict[str, Sampler] = {
        "natural": lambda epoch: natural(len(labels), seed, epoch),
        "class_balanced": lambda epoch: class_balanced(labels, seed, epoch),
        "repeat_factor": lambda epoch: repeat_factor(labels, recipe.repeat_threshold, recipe.repeat_cap, seed, epoch),
    }
    if not recipe.retrain_epochs:
        return makers[recipe.row_sampling]
    first = retrained_from(recipe)
    return lambda epoch: makers[recipe.row_sampling if epoch < first else "class_balanced"](epoch)


def with_synthetic(recipe: Recipe, real: Sampler, drawn: int) -> Sampler:
    """The sampler of a run with drawn rows, which are numbered after the real ones.

    `mix`: after the warm-up, drawn rows take the places of real ones, in proportion to their number: K drawn rows
    beside N real ones get the share K / (N + K) of an epoch. `pretrain`: the first epochs show drawn rows alone, over
    and over, all others real rows alone.

    Args:
        recipe: of the run.
        real: the sampler of the real rows; its epochs have as many places as there are real rows.
        drawn: drawn rows.
    """

    def shown(epoch: int) -> Int[np.ndarray, " rows"]:
        order = real(epoch)
        places = len(order)
        draw = generator(recipe.seed, "drawn", epoch)
        if recipe.synthetic.schedule == "pretrain":
            pretraining = epoch < pretraining_epochs(recipe)
            return places + _over_and_over(drawn, places, draw) if pretraining else order
        if epoch < synthetic_from(recipe):
            return order
        # By pairs of a batch, so that mixup finds two images of a kind; at random rounded, so that the mean is exact.
        batch, pair = np.divmod(np.arange(places), recipe.train.batch_size)
        pair = batch * recipe.train.batch_size + pair // 2
        pairs = np.unique(pair)
        chosen = draw.permutation(pairs)[: int(len(pairs) * drawn / (places + drawn) + draw.random())]
        taken = np.flatnonzero(np.isin(pair, chosen))
        order[taken] = places + _over_and_over(drawn, len(taken), draw)
        return order

    return shown


def synthetic_from(recipe: Recipe) -> int:
    """The first epoch of `mix` that shows drawn rows, counted from 0."""
    warmup = recipe.synthetic.warmup
    return recipe.train.head_warmup_epochs if warmup is None else warmup


def pretraining_epochs(recipe: Recipe) -> int:
    """Epochs of drawn rows alone: the share of `pretrain`, at least one and not all; 0 with `mix`."""
    if recipe.synthetic.schedule == "mix":
        return 0
    epochs = recipe.train.epochs
    return min(max(1, round(recipe.synthetic.pretrain_share * epochs)), epochs - 1)


def retrained_from(recipe: TrainRecipe) -> int:
    """The first epoch that retrains the head alone, counted from 0; the number of epochs if none does."""
    return recipe.epochs - recipe.retrain_epochs


def _over_and_over(rows: int, count: int, draw: np.random.Generator) -> Int[np.ndarray, " places"]:
    return np.concatenate([draw.permutation(rows) for _ in range(-(-count // rows))] or [np.empty(0, np.int64)])[:count]
