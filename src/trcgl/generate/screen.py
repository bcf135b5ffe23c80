"""Which drawn images are kept: screening scores and a verdict for each. Rejected images stay, with their reason.

A drawn image is rejected for the first of these that holds:

1. `blank`: less than half of the contrast that 999 of 1,000 real training images have.
2. `saturated`: black and white pixels (0 and 255) cover 5 points more of it than of 999 of 1,000 real ones.
3. `copy of a training image`: nearer to one, or to its mirror image, than 999 of 1,000 real training images are to
   those of other patients.
4. `target not recognized`: a classifier that was trained on real rows alone gives its target less than it gives three
   of four real val images with it, and would not call it present either (see `LabelRule`).
5. `repeats a synthetic image`: it is as near to one that is kept before it.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from trcgl.core.randomness import generator as randomness
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.synthetic_rows import KEPT
from trcgl.generate.near_duplicates import nearest, repeats, thumbnails
from trcgl.metrics.calibrate import fit_threshold

BLANK = "rejected: blank"
SATURATED = "rejected: saturated"
COPY = "rejected: copy of a training image"
UNRECOGNIZED = "rejected: target not recognized"
REPEATED = "rejected: repeats a synthetic image"

SCORES = (
    "screen/contrast",
    "screen/extremes",
    "screen/train_similarity",
    "screen/target",
    "screen/synthetic_similarity",
)
"""Columns of screening scores, Float64; null where a score was not computed."""

_SHARE = 0.25  # of real images with a finding that the label check may reject too
_FALSE_POSITIVES = 0.05  # of real images without it that may pass where those with it are too few
_FEW = 5
_RARE = 0.001  # of real images lie beyond a limit
_SAMPLE = 4096  # real images that limits are measured on
_COPY = 0.999  # correlation of what is a copy even where real images repeat each other
_CHUNK = 256


@dataclass(frozen=True)
class LabelRule:
    """From which score on a drawn image shows its target.

    The score is the classifier's for the target; for the normal label it is one minus the highest score of any other
    finding, since a normal radiograph is one on which nothing is found. All thresholds come from real val images:
    scores of images that the classifier learned from are too high. The threshold is the lower of two. A drawn image
    that reaches the 25 % quantile of images with the target is no less typical than three of four real ones; this
    bounds what screening costs a finding that the classifier knows badly, and `others_pass` tells how little it then
    selects. One that reaches the threshold with the best F1 would be called present on a real image; a classifier that
    tells a finding apart with ease puts nearly all real scores next to 1, and the quantile with them. With fewer than 5
    images with the target both say little, and the threshold is the 95 % quantile of images without it.

    Args:
        target: a finding.
        threshold: of the score; None where val has too few images with and without the target, and all pass.
        rule: how it was found, in words.
        positives: real val images with the target.
        others: real val images known to be without it.
        others_pass: share of these that reach the threshold.
    """

    target: str
    threshold: float | None
    rule: str
    positives: int
    others: int
    others_pass: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value."""
        return dataclasses.asdict(self)


def target_score(
    score: Float[np.ndarray, "rows findings"], target: str, space: LabelSpace
) -> Float[np.ndarray, " rows"]:
    """How much of the target a classifier sees: its score, or for normal one minus the highest score of the others."""
    column = space.index(target)
    if target != space.normal or len(space.findings) == 1:
        return score[:, column]
    return 1 - np.delete(score, column, axis=1).max(1)


def label_rules(
    targets: Iterable[str],
    score: Float[np.ndarray, "rows findings"],
    truth: Float[np.ndarray, "rows findings"],
    space: LabelSpace,
    weight: Float[np.ndarray, " rows"] | None = None,
) -> dict[str, LabelRule]:
    """The rule of each target, from real val images.

    Args:
        targets: findings.
        score: of a classifier trained on real rows of other patients.
        truth: 1 present, 0 absent, NaN unknown.
        space: of the columns.
        weight: of the images in F1; None weighs all alike.
    """
    rules = {}
    for target in dict.fromkeys(targets):
        seen, known = target_score(score, target, space), truth[:, space.index(target)]
        having, others = seen[known == 1], seen[known == 0]
        threshold = None
        rule = f"not checked: val has {len(having)} images with it and {len(others)} without"
        if len(having) >= _FEW:
            threshold, rule = float(np.quantile(having, _SHARE)), "25 % quantile of real val images with it"
            called = fit_threshold(known, seen, weight)
            if called is not None and called < threshold:
                threshold, rule = called, "threshold with the best F1 on real val images"
        elif len(others) >= _FEW:
            threshold = float(np.quantile(others, 1 - _FALSE_POSITIVES))
            rule = f"95 % quantile of real val images without it, as only {len(having)} have it"
        passing = float((others >= threshold).mean()) if threshold is not None and len(others) else None
        rules[target] = LabelRule(target, threshold, rule, len(having), len(others), passing)
    return rules


@dataclass(frozen=True)
class Reference:
    """What real training images look like, measured once.

    Args:
        thumbnails: of all of them.
        contrast: a drawn image with a lower standard deviation of gray levels is blank.
        extremes: one with a larger share of 0 and 255 is saturated.
        similarity: a higher correlation of thumbnails is a copy.
    """

    thumbnails: Float[Tensor, "rows side side"]
    contrast: float
    extremes: float
    similarity: float

    @property
    def limits(self) -> dict[str, float]:
        """The three limits, for reports."""
        return {name: getattr(self, name) for name in ("contrast", "extremes", "similarity")}


def measure(
    images: UInt8[np.ndarray, "store height width"],
    rows: Int[np.ndarray, " rows"],
    patients: Sequence[str],
    seed: int = 0,
) -> Reference:
    """Measure real training images.

    Args:
        images: a store, possibly memory-mapped.
        rows: the training images in it.
        patients: their patients. Images of one patient may resemble each other more than a copy may.
        seed: of the sample of at most 4,096 images that limits are measured on.
    """
    small = thumbnails(images, rows)
    patient = np.unique(np.asarray(patients), return_inverse=True)[1].astype(np.int64)
    sample = randomness(seed, "screen").permutation(len(rows))[:_SAMPLE]
    contrast, extremes = appearance(images, rows[sample])
    similarity = nearest(small[sample], small, apart=(patient[sample], patient))
    return Reference(
        small,
        contrast=0.5 * float(np.quantile(contrast, _RARE)),
        extremes=float(np.quantile(extremes, 1 - _RARE)) + 0.05,
        similarity=min(_COPY, float(np.quantile(similarity, 1 - _RARE))) if similarity.max() > -1 else _COPY,
    )


def appearance(
    images: UInt8[np.ndarray, "store height width"], rows: Int[np.ndarray, " rows"] | None = None
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """Standard deviation of the gray levels of each image, and the share of its pixels that are 0 or 255."""
    rows = np.arange(len(images)) if rows is None else rows
    contrast, extremes = np.empty(len(rows)), np.empty(len(rows))
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        batch = images[rows[part]]
        contrast[part] = batch.std((1, 2))
        extremes[part] = ((batch == 0) | (batch == 255)).mean((1, 2))
    return contrast, extremes


def screen(
    images: UInt8[np.ndarray, "rows height width"],
    targets: Sequence[str],
    score: Float[np.ndarray, "rows findings"],
    rules: dict[str, LabelRule],
    reference: Reference,
    space: LabelSpace,
) -> pl.DataFrame:
    """Score and judge drawn images.

    Args:
        images: drawn.
        targets: the finding that each was drawn for.
        score: of a classifier trained on real rows alone.
        rules: of every target.
        reference: real training images.
        space: of the columns of `score`.

    Returns:
        Columns of `SCORES`, and `verdict`: `kept` or `rejected: <reason>`.
    """
    contrast, extremes = appearance(images)
    small = thumbnails(images)
    copied = nearest(small, reference.thumbnails)
    of_target, unrecognized = _recognized(targets, score, rules, space)
    verdict = np.full(len(images), KEPT, dtype=object)
    for reason, holds in (
        (UNRECOGNIZED, unrecognized),
        (COPY, copied > reference.similarity),
        (SATURATED, extremes > reference.extremes),
        (BLANK, contrast < reference.contrast),
    ):
        verdict[holds] = reason
    repeated_by, repeated = repeats(small, verdict == KEPT, reference.similarity)
    verdict[repeated] = REPEATED
    scores = (contrast, extremes, copied, of_target, repeated_by)
    columns = {name: pl.Series(one.astype(np.float64)).fill_nan(None) for name, one in zip(SCORES, scores, strict=True)}
    return pl.DataFrame({**columns, "verdict": pl.Series(verdict.tolist(), dtype=pl.String)})


def unscreened(rows: int) -> pl.DataFrame:
    """What `screen` would return, without scores, where every image is kept unseen."""
    columns = {name: pl.Series([None] * rows, dtype=pl.Float64) for name in SCORES}
    return pl.DataFrame({**columns, "verdict": pl.Series([KEPT] * rows, dtype=pl.String)})


def _recognized(
    targets: Sequence[str], score: np.ndarray, rules: dict[str, LabelRule], space: LabelSpace
) -> tuple[Float[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    names = np.asarray(targets)
    found, failed = np.zeros(len(names)), np.zeros(len(names), bool)
    for target, rule in rules.items():
        rows = names == target
        found[rows] = target_score(score[rows], target, space)
        failed[rows] = rule.threshold is not None and found[rows] < rule.threshold
    return found, failed
