"""Screen synthetic images: scores and a verdict for each. Rejected images stay in the folder, with their reason.

An image is rejected for the first of these reasons that holds:

1. `blank`: its contrast is less than half of the contrast that 999 of 1,000 real training images reach.
2. `saturated`: the share of its pixels that are black or white (0 or 255) is more than 5 percentage points above the
   share that 999 of 1,000 real training images stay below.
3. `copy of a training image`: it, or its mirror image, is nearer to a training image than 999 of 1,000 real training
   images are to images of other patients. In image-to-image synthesis, images of the patient of its pixel source are
   left out of this comparison; instead, it must not be nearer to its pixel source than 99 of 100 real training images
   are to another image of the same patient.
4. `target not recognized`: a classifier that was trained on real images alone scores its target below the threshold of
   `LabelRule`.
5. `repeats a synthetic image`: it is as near to a synthetic image that was kept before it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from trcgl.core.randomness import generator as randomness
from trcgl.dataset import manifest as manifests
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import KEPT
from trcgl.generate.near_duplicates import nearest, nearest_repeat, paired, repeats, thumbnails
from trcgl.metrics.calibrate import calibrated, fit_threshold
from trcgl.metrics.rows import Rows, Table
from trcgl.model.folder import LoadedModel
from trcgl.model.scoring import score_images

BLANK = "rejected: blank"
SATURATED = "rejected: saturated"
COPY = "rejected: copy of a training image"
UNRECOGNIZED = "rejected: target not recognized"
REPEATED = "rejected: repeats a synthetic image"

SCORES = tuple(
    f"screen/{score}"
    for score in ("contrast", "extremes", "train_similarity", "source_similarity", "target", "synthetic_similarity")
)
"""Columns of screening scores, Float64; null where a score was not computed."""

_MISSED = 0.25  # share of real images with a finding that the label rule may reject too
_FALSE_POSITIVES = 0.05  # share of real images without the finding that may pass if few images with it exist
_FEW = 5
_RARE = 0.001  # share of real images beyond a limit
_SAMPLE = 4096  # real images that limits are measured on
_REPEAT = 0.99  # quantile of the similarity of real images to another image of the same patient
_REPEATS = 20  # fewest images with another image of the same patient for that quantile
_COPY = 0.999  # correlation above which an image is a copy even if real images repeat each other
_CHUNK = 256

Images = UInt8[np.ndarray, "rows side side"]
Store = UInt8[np.ndarray, "store side side"]


@dataclass(frozen=True)
class LabelRule:
    """The score from which a synthetic image is taken to show its target.

    The score is the classifier's for the target; for the normal label it is one minus the highest score of any other
    finding. Thresholds come from real val images, because scores of images that the classifier learned from are too
    high. The threshold is the lower of two: the 25 % quantile of val images with the target, and the threshold with the
    best F1. The quantile bounds how many images screening costs a finding that the classifier knows badly. The F1
    threshold protects findings that the classifier separates so well that nearly all real scores are next to 1. With
    fewer than 5 val images with the target, the threshold is the 95 % quantile of images without it.
    """

    target: str
    threshold: float | None  # smallest score that passes; None if val is too small for one, so that all images pass
    rule: str
    positives: int
    others: int  # number of real val images known to be without the target
    others_pass: float | None  # share of these that reach the threshold; None if unknown


@dataclass(frozen=True)
class Reference:
    """Limits measured on real training images."""

    thumbnails: Float[Tensor, "rows side side"]
    contrast: float  # standard deviation of gray levels below which an image is blank
    extremes: float  # share of pixels 0 or 255 above which an image is saturated
    similarity: float  # correlation of thumbnails above which an image is a copy
    patient: Int[np.ndarray, " rows"] | None = None  # number of the patient of each thumbnail
    source_similarity: float = _COPY  # correlation above which an image is a copy of its own pixel source

    def limits(self, from_real: bool) -> dict[str, float]:
        """The limits, for reports; that of pixel sources only for image-to-image synthesis."""
        names = ("contrast", "extremes", "similarity", *(["source_similarity"] if from_real else []))
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Screening:
    """Result of screening; without a screener there are no limits and no rules.

    `table` has one row per image: the columns of `SCORES` and `verdict`, which is `kept` or `rejected: <reason>`.
    """

    table: pl.DataFrame
    limits: Mapping[str, float] = field(default_factory=dict)  # of `Reference`, by name
    rules: Mapping[str, LabelRule] = field(default_factory=dict)  # by target


def screen_images(images: Images, plan: pl.DataFrame, dataset: Dataset, screener: LoadedModel | None) -> Screening:
    """Screen images with a classifier and against real training images; without a classifier, keep all of them.

    `plan`: a row per image, with `target` and, for image-to-image synthesis, `pixel_source_image`.
    """
    if screener is None:
        return unscreened(plan.height)
    targets = plan["target"].to_list()
    train, val = dataset.split("train"), dataset.split("val")
    real, temperature = dataset.require_images(), screener.temperature or 1.0
    score = calibrated(score_images(screener, real, val["row"].to_numpy()), temperature)
    truth, weight = manifests.label_array(val, dataset.space), val["weight"].to_numpy()
    rules = label_rules(targets, score, truth, dataset.space, weight)
    reference = measure(real, train["row"].to_numpy(), train["patient_id"].to_list())
    score = calibrated(score_images(screener, images), temperature)
    origin = None
    if "pixel_source_image" in plan.columns:
        place_of = {image: place for place, image in enumerate(train["image_id"])}
        origin = np.array([place_of[image] for image in plan["pixel_source_image"]], dtype=np.int64)
    table = screen(images, targets, score, rules, reference, dataset.space, origin)
    return Screening(table, reference.limits(origin is not None), rules)


def unscreened(rows: int) -> Screening:
    """The result for images that are all kept without screening: no scores, no limits."""
    scores = {name: pl.Series([None] * rows, dtype=pl.Float64) for name in SCORES}
    return Screening(pl.DataFrame({**scores, "verdict": pl.Series([KEPT] * rows, dtype=pl.String)}))


def screen(
    images: Images,
    targets: Sequence[str],
    score: Table,
    rules: dict[str, LabelRule],
    reference: Reference,
    space: LabelSpace,
    origin: Int[np.ndarray, " rows"] | None = None,
) -> pl.DataFrame:
    """The columns of `SCORES` and `verdict`; `score` is from a classifier that was trained on real images alone.

    `origin`: row of the reference that each image started from; None for images from noise.
    """
    contrast, extremes = appearance(images)
    small, known = thumbnails(images), reference.thumbnails
    apart = None if origin is None or reference.patient is None else (reference.patient[origin], reference.patient)
    similarity = nearest(small, known, apart)
    to_source = np.full(len(images), np.nan) if origin is None else paired(small, known[torch.from_numpy(origin)])
    names = np.asarray(targets)
    seen, unrecognized = np.zeros(len(names)), np.zeros(len(names), bool)
    for target, rule in rules.items():
        rows = names == target
        seen[rows] = target_score(score[rows], target, space)
        unrecognized[rows] = rule.threshold is not None and seen[rows] < rule.threshold
    verdict = np.full(len(images), KEPT, dtype=object)
    for reason, holds in (
        (UNRECOGNIZED, unrecognized),
        (COPY, (similarity > reference.similarity) | (to_source > reference.source_similarity)),
        (SATURATED, extremes > reference.extremes),
        (BLANK, contrast < reference.contrast),
    ):
        verdict[holds] = reason
    same = None if apart is None else (apart[0], reference.source_similarity)
    repeat_similarity, repeated = repeats(small, verdict == KEPT, reference.similarity, same)
    verdict[repeated] = REPEATED
    values = (contrast, extremes, similarity, to_source, seen, repeat_similarity)
    columns = {
        name: pl.Series(column.astype(np.float64)).fill_nan(None) for name, column in zip(SCORES, values, strict=True)
    }
    return pl.DataFrame({**columns, "verdict": pl.Series(verdict.tolist(), dtype=pl.String)})


def target_score(score: Table, target: str, space: LabelSpace) -> Rows:
    """The classifier's score for the target; for the normal label one minus the highest score of another finding."""
    column = space.index(target)
    if target != space.normal or len(space.findings) == 1:
        return score[:, column]
    return 1 - np.delete(score, column, axis=1).max(1)


def label_rules(
    targets: Iterable[str], score: Table, truth: Table, space: LabelSpace, weight: Rows | None = None
) -> dict[str, LabelRule]:
    """Screening rule of each target finding, fitted on real val images.

    `score`: probabilities of a classifier trained on real rows of other patients. `truth`: 1 present, 0 absent, NaN
    unknown. `weight`: weight of each image in F1; None for equal weights.
    """
    rules = {}
    for target in dict.fromkeys(targets):
        seen, known = target_score(score, target, space), truth[:, space.index(target)]
        having, others = seen[known == 1], seen[known == 0]
        threshold = None
        rule = f"not checked: val has {len(having)} images with it and {len(others)} without"
        if len(having) >= _FEW:
            threshold, rule = float(np.quantile(having, _MISSED)), "25 % quantile of real val images with it"
            best_f1 = fit_threshold(known, seen, weight)
            if best_f1 is not None and best_f1 < threshold:
                threshold, rule = best_f1, "threshold with the best F1 on real val images"
        elif len(others) >= _FEW:
            threshold = float(np.quantile(others, 1 - _FALSE_POSITIVES))
            rule = f"95 % quantile of real val images without it, as only {len(having)} have it"
        passing = float((others >= threshold).mean()) if threshold is not None and len(others) else None
        rules[target] = LabelRule(target, threshold, rule, len(having), len(others), passing)
    return rules


def measure(images: Store, rows: Int[np.ndarray, " rows"], patients: Sequence[str], seed: int = 0) -> Reference:
    """Measure the limits of real training images.

    `rows`: the training images among them. `patients`: patient of each training image; images of one patient are not
    compared with each other. `seed`: random seed of the sample of at most 4,096 images that limits are measured on.
    """
    small = thumbnails(images, rows)
    patient = np.unique(np.asarray(patients), return_inverse=True)[1].astype(np.int64)
    sample = randomness(seed, "screen").permutation(len(rows))[:_SAMPLE]
    contrast, extremes = appearance(images, rows[sample])
    similarity = nearest(small[sample], small, apart=(patient[sample], patient))
    repeated = nearest_repeat(small, patient, sample)
    repeated = repeated[repeated > -1]
    return Reference(
        small,
        contrast=0.5 * float(np.quantile(contrast, _RARE)),
        extremes=float(np.quantile(extremes, 1 - _RARE)) + 0.05,
        similarity=min(_COPY, float(np.quantile(similarity, 1 - _RARE))) if similarity.max() > -1 else _COPY,
        patient=patient,
        source_similarity=min(_COPY, float(np.quantile(repeated, _REPEAT))) if len(repeated) >= _REPEATS else _COPY,
    )


def appearance(images: Store, rows: Int[np.ndarray, " rows"] | None = None) -> tuple[Rows, Rows]:
    """Standard deviation of the gray levels of each image, and the share of its pixels that are 0 or 255."""
    rows = np.arange(len(images)) if rows is None else rows
    contrast, extremes = np.empty(len(rows)), np.empty(len(rows))
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        batch = images[rows[part]]
        contrast[part] = batch.std((1, 2))
        extremes[part] = ((batch == 0) | (batch == 255)).mean((1, 2))
    return contrast, extremes
