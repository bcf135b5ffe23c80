"""The images of an audit, synthetic and real, with the auditor's calibrated scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Int, UInt8

from trcgl.audit.inputs import Inputs
from trcgl.audit.options import HeldOut
from trcgl.audit.round_trip import PixelError, pixel_error, round_trip
from trcgl.audit.sample_plan import WITH, WITHOUT, Sheet, Store, first
from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import label_array
from trcgl.dataset.patient_halves import half
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import KEPT, sources
from trcgl.metrics.calibrate import calibrated
from trcgl.model.folder import LoadedModel
from trcgl.model.scoring import score_images

_CHUNK = 1024  # decoded images held in memory at once


@dataclass(frozen=True)
class RealImages:
    """Rows of the real dataset."""

    rows: pl.DataFrame  # manifest rows
    truth: Float[np.ndarray, "rows findings"]  # 1 present, 0 absent, NaN unknown
    weight: Float[np.ndarray, " rows"]  # weight of each image

    @classmethod
    def of(cls, rows: pl.DataFrame, space: LabelSpace) -> "RealImages":
        """Images of manifest rows."""
        return cls(rows, label_array(rows, space).astype(np.float64), rows["weight"].to_numpy().astype(np.float64))

    @property
    def store(self) -> Int[np.ndarray, " rows"]:
        """Rows of the images in the dataset's image store."""
        return self.rows["row"].to_numpy()

    def patients(self, rows: Int[np.ndarray, " chosen"] | None = None) -> list[str]:
        """Patient of each image, or of some."""
        patients = self.rows["patient_id"]
        return (patients if rows is None else patients.gather(rows)).to_list()


@dataclass(frozen=True)
class ScoredSheet:
    """Synthetic images of one sheet."""

    rows: pl.DataFrame  # plan of the images
    images: UInt8[np.ndarray, "rows side side"]  # in the order of the rows
    scores: Float[np.ndarray, "rows findings"]  # calibrated scores of the auditor

    @property
    def from_real(self) -> bool:
        """Whether the images started from real images (image-to-image synthesis)."""
        return "pixel_source_image" in self.rows.columns

    def rows_of(self, finding: str) -> Int[np.ndarray, " rows"]:
        """Rows generated for a finding."""
        return np.flatnonzero((self.rows["target"] == finding).to_numpy())

    def patients(self, rows: Int[np.ndarray, " chosen"] | None = None) -> list[str]:
        """Source patient of each image, or of some: the patient whose label set it was generated with."""
        patients = self.rows["patient_id"]
        return (patients if rows is None else patients.gather(rows)).to_list()


@dataclass(frozen=True)
class PairedScores:
    """Scores of images of the same label sets and seeds with and without the target finding."""

    with_target: Float[np.ndarray, "pairs findings"]  # scores of the images with the target
    without_target: Float[np.ndarray, "pairs findings"]  # scores of their counterparts
    rows: pl.DataFrame  # plan of the images with the target


@dataclass(frozen=True)
class ScoredImages:
    """All images of an audit."""

    inputs: Inputs  # the open folders
    findings: tuple[str, ...]  # audited findings
    sheets: dict[str, ScoredSheet]  # synthetic images by sheet name
    train: RealImages  # real training images
    # training images of patients that the auditor was not trained on. They are the null in comparisons with
    # held-out images: in the auditor's features, its own training images are unlike others
    unseen: RealImages
    held_out: RealImages  # real images of patients that the generator was not trained on
    held_out_score: Float[np.ndarray, "held_out findings"]  # scores of `held_out`
    # scores of `held_out` after encoding and decoding by the generator's autoencoder
    decoded_score: Float[np.ndarray, "held_out findings"]
    error: PixelError  # how much encoding and decoding changes pixels
    screening: list[str | None]  # screening verdict of each row of the sheet `with`; None if the image was not screened

    @property
    def space(self) -> LabelSpace:
        """Label space of the dataset."""
        return self.inputs.dataset.space

    @property
    def thresholds(self) -> dict[str, float]:
        """Thresholds of the auditor, fitted on val."""
        return self.inputs.auditor.thresholds or {}

    @property
    def phantom(self) -> bool:
        """Whether the real images are rendered phantoms."""
        return bool(self.inputs.dataset.info["source"] == "phantom")

    def pixels(self, side: RealImages, rows: Int[np.ndarray, " rows"]) -> UInt8[np.ndarray, "rows side side"]:
        """Pixels of some real images."""
        return np.asarray(self.inputs.dataset.require_images()[side.store[rows]])

    def score(self, side: RealImages, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows findings"]:
        """Calibrated scores of some real images."""
        return _score(self.inputs.auditor, self.inputs.dataset.require_images(), side.store[rows])

    def positives(self, side: RealImages, finding: str) -> Int[np.ndarray, " rows"]:
        """Rows of real images that have a finding."""
        return np.flatnonzero(side.truth[:, self.space.index(finding)] == 1)

    def normals(self, side: RealImages) -> Int[np.ndarray, " rows"]:
        """Rows of real images without any finding."""
        normal = self.space.normal
        if normal is None:
            return np.empty(0, np.int64)
        indexed = side.rows.with_row_index("place")
        return sources(indexed, self.space, normal)["place"].to_numpy().astype(np.int64)

    def kept(self, rows: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " kept"]:
        """The rows of the sheet `with` that passed screening."""
        return rows[[self.screening[row] == KEPT for row in rows]]

    def pairs(self, prefix: str = "", each: int | None = None) -> PairedScores:
        """Scores with and without the target in two sheets of a prefix: all pairs, or the first of each finding."""
        rows = self.sheets[prefix + WITH].rows.with_row_index("place")
        rows = rows if each is None else first(rows, each)
        places = rows["place"].to_numpy()
        with_target, without_target = (self.sheets[prefix + name].scores[places] for name in (WITH, WITHOUT))
        return PairedScores(with_target, without_target, rows.drop("place"))


def held_out_rows(dataset: Dataset, held_out: HeldOut) -> pl.DataFrame:
    """Manifest rows of the reference images."""
    splits = ("val", "test") if held_out == "both" else (held_out,)
    return pl.concat([dataset.split(split) for split in splits])


def score_all(
    inputs: Inputs, findings: Sequence[str], sheets: Sequence[Sheet], store: Store, held_out: HeldOut, batch_size: int
) -> ScoredImages:
    """Read the finished sheets and score all images with the auditor, `batch_size` encoded and decoded at once."""
    dataset, auditor = inputs.dataset, inputs.auditor
    images = dataset.require_images()
    scored = {}
    for sheet in sheets:
        pixels = store.read(sheet)
        scored[sheet.name] = ScoredSheet(sheet.rows, pixels, _score(auditor, pixels))
    real = RealImages.of(held_out_rows(dataset, held_out), dataset.space)
    real_score = _score(auditor, images, real.store)
    decoded_scores, error = [], PixelError(0, 0, 0.0)
    for start in range(0, real.rows.height, _CHUNK):
        rows = real.store[start : start + _CHUNK]
        decoded = round_trip(inputs.generator, images, rows, batch_size)
        error = error.with_more(pixel_error(images, rows, decoded))
        decoded_scores.append(_score(auditor, decoded))
    if not all(np.isfinite(scores).all() for scores in (*(sheet.scores for sheet in scored.values()), real_score)):
        raise DataError("the auditor gives a score that is not a number. Train another auditor.")
    train = unseen = dataset.split("train")
    if inputs.auditor_half:
        learned = half(dataset, inputs.auditor_half)["patient_id"].implode()
        unseen = train.filter(~pl.col("patient_id").is_in(learned))
    # Without a screener every image is recorded as kept although none was screened.
    verdicts = inputs.provenance["verdict"].to_list() if inputs.screened else None
    taken_over = store.taken_over(next(sheet for sheet in sheets if sheet.name == WITH))
    return ScoredImages(
        inputs,
        tuple(findings),
        scored,
        train=RealImages.of(train, dataset.space),
        unseen=RealImages.of(unseen, dataset.space),
        held_out=real,
        held_out_score=real_score,
        decoded_score=np.concatenate(decoded_scores),
        error=error,
        screening=[verdicts[place] if verdicts and place >= 0 else None for place in taken_over],
    )


def _score(auditor: LoadedModel, images: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    return calibrated(score_images(auditor, images, rows), auditor.temperature or 1.0)
