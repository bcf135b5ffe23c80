"""Row sampling: the rows of an epoch and their order, as pure functions of (labels, seed, epoch).

Every epoch has as many rows as there are real training rows, so that epochs with different row sampling, and with and
without synthetic images, cost the same.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from trcgl.core.errors import RecipeError
from trcgl.core.randomness import generator
from trcgl.core.recipe import Recipe, TrainRecipe

Labels = Float[np.ndarray, "rows findings"]
RowNumbers = Int[np.ndarray, " rows"]
RowSampler = Callable[[int], RowNumbers]
"""Maps an epoch to row numbers."""


def natural(rows: int, seed: int, epoch: int) -> RowNumbers:
    """Every row once, shuffled."""
    return generator(seed, "sampling", epoch).permutation(rows)


def class_balanced(labels: Labels, seed: int, epoch: int) -> RowNumbers:
    """For each row of the epoch, sample a finding with positives uniformly, then a positive row of it uniformly.

    Raises:
        RecipeError: no row has a positive label.
    """
    positives = [rows for rows in (np.flatnonzero(column == 1) for column in labels.T) if len(rows)]
    if not positives:
        raise RecipeError("train.row_sampling class_balanced: no training row has a positive label. Choose natural.")
    rng = generator(seed, "sampling", epoch)
    findings = rng.integers(len(positives), size=len(labels))
    shares = rng.random(len(labels))
    rows = zip((positives[finding] for finding in findings), shares, strict=True)
    return np.array([of_finding[int(share * len(of_finding))] for of_finding, share in rows])


def repeat_factors(labels: Labels, threshold: float, cap: float) -> Float[np.ndarray, " rows"]:
    """Mean number of repeats of each row: r_i = max over its findings c of min(cap, max(1, sqrt(T / f_c))).

    Source: Gupta, Dollár & Girshick 2019 (LVIS), appendix B; f_c is the fraction of rows with finding c.
    """
    present = labels == 1
    fraction = np.maximum(present.mean(0), 1 / max(len(labels), 1))
    of_finding = np.clip(np.sqrt(threshold / fraction), 1, cap)
    return np.where(present, of_finding, 1.0).max(1)


def repeat_factor(labels: Labels, threshold: float, cap: float, seed: int, epoch: int) -> RowNumbers:
    """Rows repeated by `repeat_factors` (rounded at random to keep the mean), shuffled, and cut to an epoch."""
    factors = repeat_factors(labels, threshold, cap)
    rng = generator(seed, "sampling", epoch)
    repeats = np.floor(factors + rng.random(len(factors))).astype(np.int64)
    return rng.permutation(np.repeat(np.arange(len(factors)), repeats))[: len(factors)]


def row_sampler(recipe: TrainRecipe, labels: Labels, seed: int) -> RowSampler:
    """The row sampling of a recipe over the labels of the real training rows (NaN where unknown).

    Epochs that retrain the head are class-balanced.
    """
    samplers: dict[str, RowSampler] = {
        "natural": lambda epoch: natural(len(labels), seed, epoch),
        "class_balanced": lambda epoch: class_balanced(labels, seed, epoch),
        "repeat_factor": lambda epoch: repeat_factor(labels, recipe.repeat_threshold, recipe.repeat_cap, seed, epoch),
    }
    if not recipe.retrain_epochs:
        return samplers[recipe.row_sampling]
    first = retrained_from(recipe)
    return lambda epoch: samplers[recipe.row_sampling if epoch < first else "class_balanced"](epoch)


def with_synthetic(recipe: Recipe, real: RowSampler, synthetic: int) -> RowSampler:
    """Row sampling of a run with synthetic rows, which are numbered after the real rows.

    `mix`: after the warm-up, synthetic rows replace real rows in proportion to their number: K synthetic and N real
    rows have the shares K / (N + K) and N / (N + K) of an epoch. `pretrain`: the first epochs have synthetic rows
    alone, repeated, and the other epochs real rows alone.
    """

    def rows_of(epoch: int) -> RowNumbers:
        order = real(epoch)
        places = len(order)
        rng = generator(recipe.seed, "drawn", epoch)
        if recipe.synthetic.schedule == "pretrain":
            pretraining = epoch < pretraining_epochs(recipe)
            return places + _repeated(synthetic, places, rng) if pretraining else order
        warmup = recipe.synthetic.warmup
        if epoch < (recipe.train.head_warmup_epochs if warmup is None else warmup):
            return order
        # Pairs of a batch are replaced together, because mixup does not mix real with synthetic images; the number of
        # pairs is rounded at random to keep the mean.
        batch, pair = np.divmod(np.arange(places), recipe.train.batch_size)
        pair = batch * recipe.train.batch_size + pair // 2
        pairs = np.unique(pair)
        chosen = rng.permutation(pairs)[: int(len(pairs) * synthetic / (places + synthetic) + rng.random())]
        taken = np.flatnonzero(np.isin(pair, chosen))
        order[taken] = places + _repeated(synthetic, len(taken), rng)
        return order

    return rows_of


def pretraining_epochs(recipe: Recipe) -> int:
    """Number of epochs on synthetic rows alone: the share of `pretrain`, at least one and not all; 0 with `mix`."""
    if recipe.synthetic.schedule == "mix":
        return 0
    epochs = recipe.train.epochs
    return min(max(1, round(recipe.synthetic.pretrain_share * epochs)), epochs - 1)


def retrained_from(recipe: TrainRecipe) -> int:
    """The first epoch that retrains the head, counted from 0; the number of epochs if none does."""
    return recipe.epochs - recipe.retrain_epochs


def _repeated(rows: int, count: int, rng: np.random.Generator) -> Int[np.ndarray, " places"]:
    return np.concatenate([rng.permutation(rows) for _ in range(-(-count // rows))] or [np.empty(0, np.int64)])[:count]
