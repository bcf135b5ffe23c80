"""Row sampling: the rows of an epoch and their order, as pure functions of (labels, seed, epoch).

Epochs with different row sampling, and with and without synthetic images, cost the same: each has as many rows as there
are real training rows. Exceptions are whole epochs of `repeat_factor` and a pool of real and synthetic rows.
"""

from collections.abc import Callable
from typing import Literal

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
    positives = _positives(labels, "class_balanced")
    rng = generator(seed, "sampling", epoch)
    findings = rng.integers(len(positives), size=len(labels))
    shares = rng.random(len(labels))
    rows = zip((positives[finding] for finding in findings), shares, strict=True)
    return np.array([of_finding[int(share * len(of_finding))] for of_finding, share in rows])


def class_aware(labels: Labels, seed: int, epoch: int) -> RowNumbers:
    """Every finding with positives in turn, and for each the next of its positive rows, all in shuffled order.

    No finding and no row of a finding comes again before all others had their turn, over the epochs of a run as well,
    so that the numbers of showings of two rows of a finding never differ by more than one. Source: Shen, Lin & Huang
    2016 (class-aware sampling); the sampler of cRT (Kang et al. 2020).

    Raises:
        RecipeError: no row has a positive label.
    """
    positives = _positives(labels, "class_aware")
    start, stop = epoch * len(labels), (epoch + 1) * len(labels)
    findings = _in_turn(len(positives), start, stop, seed, "class-aware findings")
    rows = np.empty(len(labels), np.int64)
    for finding, own in enumerate(positives):
        places = np.flatnonzero(findings == finding)
        if len(places):
            first = (start + int(places[0])) // len(positives)  # a finding comes once in every len(positives) places
            rows[places] = own[_in_turn(len(own), first, first + len(places), seed, "class-aware rows", finding)]
    return rows


def repeat_factors(
    labels: Labels, threshold: float, cap: float, frequency: Literal["rows", "labels"] = "rows"
) -> Float[np.ndarray, " rows"]:
    """Mean number of repeats of each row: r_i = max over its findings c of min(cap, max(1, sqrt(T / f_c))).

    Source: Gupta, Dollár & Girshick 2019 (LVIS), appendix B; f_c is the fraction of rows with finding c. With
    `frequency` "labels", as in the authors' release of TRCGL-Net, it is the share n_c / Σ_k n_k of all positive labels.
    """
    present = labels == 1
    if frequency == "labels":
        counts = present.sum(0).clip(min=1)
        fraction = counts / counts.sum()
    else:
        fraction = np.maximum(present.mean(0), 1 / max(len(labels), 1))
    of_finding = np.clip(np.sqrt(threshold / fraction), 1, cap)
    return np.where(present, of_finding, 1.0).max(1)


def repeat_factor(factors: Float[np.ndarray, " rows"], seed: int, epoch: int) -> RowNumbers:
    """Rows repeated by their factors (rounded at random to keep the mean), shuffled, and cut to an epoch."""
    rng = generator(seed, "sampling", epoch)
    repeats = np.floor(factors + rng.random(len(factors))).astype(np.int64)
    return rng.permutation(np.repeat(np.arange(len(factors)), repeats))[: len(factors)]


def whole_repeats(factors: Float[np.ndarray, " rows"], seed: int, epoch: int) -> Int[np.ndarray, " repeats"]:
    """Rows in random order, each in succession as often as its factor, rounded to a whole number, says."""
    order = generator(seed, "sampling", epoch).permutation(len(factors))
    return np.repeat(order, _rounded(factors)[order])


def epoch_rows(recipe: TrainRecipe, labels: Labels) -> int:
    """Number of rows of an epoch; a whole epoch of repeats has no incomplete last batch, unless it is the only one."""
    if recipe.row_sampling != "repeat_factor" or recipe.repeat_epoch == "cut":
        return len(labels)
    rows = int(_rounded(_repeat_factors(recipe, labels)).sum())
    return rows - rows % recipe.batch_size if rows > recipe.batch_size else rows


def row_sampler(recipe: TrainRecipe, labels: Labels, seed: int) -> RowSampler:
    """The row sampling of a recipe over the labels of training rows (NaN where unknown).

    Epochs that retrain the head have the row sampling of `retrain_sampling`.
    """
    repeats = whole_repeats if recipe.repeat_epoch == "whole" else repeat_factor
    samplers: dict[str, RowSampler] = {
        "natural": lambda epoch: natural(len(labels), seed, epoch),
        "class_balanced": lambda epoch: class_balanced(labels, seed, epoch),
        "class_aware": lambda epoch: class_aware(labels, seed, epoch),
        "repeat_factor": lambda epoch: repeats(_repeat_factors(recipe, labels), seed, epoch),
    }
    if not recipe.retrain_epochs:
        return samplers[recipe.row_sampling]
    first = retrained_from(recipe)
    return lambda epoch: samplers[recipe.row_sampling if epoch < first else recipe.retrain_sampling](epoch)


def with_synthetic(recipe: Recipe, sampler: RowSampler, real: int, synthetic: int) -> RowSampler:
    """Row sampling of a run with `synthetic` rows, which are numbered after the `real` rows of `sampler`.

    `mix`: after the warm-up, synthetic rows replace real rows in proportion to their number: K synthetic and N real
    rows have the shares K / (N + K) and N / (N + K) of an epoch. `pretrain`: the first epochs have synthetic rows
    alone, repeated, and the other epochs real rows alone.
    """

    def rows_of(epoch: int) -> RowNumbers:
        order = sampler(epoch)
        places = len(order)
        rng = generator(recipe.seed, "drawn", epoch)
        if recipe.synthetic.schedule == "pretrain":
            pretraining = epoch < pretraining_epochs(recipe)
            return real + _repeated(synthetic, places, rng) if pretraining else order
        if epoch < synthetic_warmup(recipe):
            return order
        # Pairs of a batch are replaced together, because mixup does not mix real with synthetic images; the number of
        # pairs is rounded at random to keep the mean.
        batch, pair = np.divmod(np.arange(places), recipe.train.batch_size)
        pair = batch * recipe.train.batch_size + pair // 2
        pairs = np.unique(pair)
        chosen = rng.permutation(pairs)[: int(len(pairs) * synthetic / (real + synthetic) + rng.random())]
        taken = np.flatnonzero(np.isin(pair, chosen))
        order[taken] = real + _repeated(synthetic, len(taken), rng)
        return order

    return rows_of


def synthetic_warmup(recipe: Recipe) -> int:
    """Number of epochs at the start in which synthetic rows are not shown (`mix`) or weigh 0 (`pool`)."""
    warmup = recipe.synthetic.warmup
    return recipe.train.head_warmup_epochs if warmup is None else warmup


def pretraining_epochs(recipe: Recipe) -> int:
    """Number of epochs on synthetic rows alone: with `pretrain` the share, at least 1 and not all; otherwise 0."""
    if recipe.synthetic.schedule != "pretrain":
        return 0
    epochs = recipe.train.epochs
    return min(max(1, round(recipe.synthetic.pretrain_share * epochs)), epochs - 1)


def retrained_from(recipe: TrainRecipe) -> int:
    """The first epoch that retrains the head, counted from 0; the number of epochs if none does."""
    return recipe.epochs - recipe.retrain_epochs


def _repeated(rows: int, count: int, rng: np.random.Generator) -> Int[np.ndarray, " places"]:
    return np.concatenate([rng.permutation(rows) for _ in range(-(-count // rows))] or [np.empty(0, np.int64)])[:count]


def _positives(labels: Labels, sampling: str) -> list[np.ndarray]:
    """Positive rows of each finding that has any."""
    positives = [rows for rows in (np.flatnonzero(column == 1) for column in labels.T) if len(rows)]
    if not positives:
        raise RecipeError(f"train.row_sampling {sampling}: no training row has a positive label. Choose natural.")
    return positives


def _in_turn(items: int, start: int, stop: int, seed: int, *purpose: str | int) -> Int[np.ndarray, " places"]:
    """Places `start` to `stop` of an endless sequence of shuffled rounds, each of which has every item once."""
    rounds = -(-1024 // items)  # rounds of one generator: making it takes longer than using it
    block = rounds * items
    first = start // block
    order = [
        generator(seed, *purpose, number).permuted(np.tile(np.arange(items), (rounds, 1)), axis=1).ravel()
        for number in range(first, -(-stop // block))
    ]
    return np.concatenate(order)[start - first * block : stop - first * block]


def _repeat_factors(recipe: TrainRecipe, labels: Labels) -> Float[np.ndarray, " rows"]:
    return repeat_factors(labels, recipe.repeat_threshold, recipe.repeat_cap, recipe.repeat_frequency)


def _rounded(factors: Float[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    return np.rint(factors).astype(np.int64)
