"""What an audit looks at, gathered once: drawn sheets, real images, and what the auditor says of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Float, Int, UInt8

from trcgl.audit.checks.ceiling import PixelError, pixel_error, round_trip
from trcgl.audit.inputs import Inputs
from trcgl.audit.sample_plan import WITH, WITHOUT, Sheet, Store
from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import label_array
from trcgl.dataset.patient_halves import half
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import KEPT
from trcgl.generate.plan import sources
from trcgl.metrics.calibrate import calibrated
from trcgl.model.folder import LoadedModel
from trcgl.model.scoring import score_images

HeldOut = Literal["both", "val", "test"]
_CHUNK = 1024  # round-tripped images that are held at once


@dataclass(frozen=True)
class Real:
    """Real images.

    Args:
        rows: of the manifest.
        truth: 1 present, 0 absent, NaN unknown.
        weight: how much each image counts.
    """

    rows: pl.DataFrame
    truth: Float[np.ndarray, "rows findings"]
    weight: Float[np.ndarray, " rows"]

    @classmethod
    def of(cls, rows: pl.DataFrame, space: LabelSpace) -> "Real":
        """The rows of a manifest."""
        return cls(rows, label_array(rows, space).astype(np.float64), rows["weight"].to_numpy().astype(np.float64))

    @property
    def patients(self) -> list[str]:
        """Whose image each row is."""
        return self.rows["patient_id"].to_list()

    @property
    def store(self) -> Int[np.ndarray, " rows"]:
        """Places of the images in the dataset's store."""
        return self.rows["row"].to_numpy()


@dataclass(frozen=True)
class Material:
    """Everything that the checks of an audit read.

    Args:
        inputs: what is audited, and by whom.
        findings: audited.
        sheets: by name.
        images: of each sheet, in the order of its rows.
        scores: of the auditor for each sheet, calibrated.
        train: real training images.
        unseen: those of patients that the auditor did not learn from. Beside held-out images they are the null: in the
            auditor's own features, images that it learned from are not like others.
        held_out: real images of patients that the generator has not seen.
        held_out_score: of the auditor, calibrated.
        returned_score: the same after encode and decode by the generator's autoencoder.
        error: what encode and decode change.
        verdict: of screening for each row of the sheet `with`; None where the image is not one that was screened.
    """

    inputs: Inputs
    findings: tuple[str, ...]
    sheets: dict[str, Sheet]
    images: dict[str, UInt8[np.ndarray, "_ side side"]]
    scores: dict[str, Float[np.ndarray, "_ findings"]]
    train: Real
    unseen: Real
    held_out: Real
    held_out_score: Float[np.ndarray, "held_out findings"]
    returned_score: Float[np.ndarray, "held_out findings"]
    error: PixelError
    verdict: list[str | None]

    @property
    def space(self) -> LabelSpace:
        """Of the dataset."""
        return self.inputs.dataset.space

    @property
    def store(self) -> UInt8[np.ndarray, "rows side side"]:
        """Real images, memory-mapped."""
        return self.inputs.dataset.require_images()

    def score(
        self, images: UInt8[np.ndarray, "store side side"], rows: Int[np.ndarray, " rows"] | None = None
    ) -> Float[np.ndarray, "rows findings"]:
        """What the auditor says of images, calibrated."""
        return _score(self.inputs.auditor, images, rows)

    def drawn(self, finding: str, sheet: str = WITH) -> Int[np.ndarray, " rows"]:
        """Rows of a sheet that were drawn for a finding."""
        return np.flatnonzero((self.sheets[sheet].rows["target"] == finding).to_numpy())

    def sources(self, rows: Int[np.ndarray, " rows"], sheet: str = WITH) -> list[str]:
        """The patients whose label sets rows of a sheet use."""
        return self.sheets[sheet].rows["patient_id"].gather(rows).to_list()

    def positives(self, real: Real, finding: str) -> Int[np.ndarray, " rows"]:
        """Rows of real images that have a finding."""
        return np.flatnonzero(real.truth[:, self.space.index(finding)] == 1)

    def normals(self, real: Real) -> Int[np.ndarray, " rows"]:
        """Rows of real images on which nothing was found."""
        normal = self.space.normal
        if normal is None:
            return np.empty(0, np.int64)
        indexed = real.rows.with_row_index("place")
        return sources(indexed, self.space, normal)["place"].to_numpy().astype(np.int64)

    def kept(self, rows: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " kept"]:
        """Those rows of the sheet `with` that were screened and kept."""
        return rows[[self.verdict[row] == KEPT for row in rows]]

    def pairs(self, with_sheet: str = WITH, without_sheet: str = WITHOUT) -> "Pairs":
        """Scores of images with and without their target, row by row."""
        return Pairs(self.scores[with_sheet], self.scores[without_sheet], self.sheets[with_sheet].rows)


@dataclass(frozen=True)
class Pairs:
    """Images of the same label sets and seeds, with and without the target.

    Args:
        with_it: scores of the former.
        without: of the latter.
        rows: plan of the former.
    """

    with_it: Float[np.ndarray, "pairs findings"]
    without: Float[np.ndarray, "pairs findings"]
    rows: pl.DataFrame


def held_out_rows(dataset: Dataset, held_out: HeldOut) -> pl.DataFrame:
    """Real rows that are the reference.

    Raises:
        DataError: a split is empty.
    """
    splits = ("val", "test") if held_out == "both" else (held_out,)
    return pl.concat([dataset.split(one) for one in splits])


def gather(
    inputs: Inputs,
    findings: Sequence[str],
    sheets: Sequence[Sheet],
    store: Store,
    held_out: HeldOut,
    batch_size: int,
) -> Material:
    """Read the sheets, and let the auditor score everything.

    Args:
        inputs: what is audited, and by whom.
        findings: audited.
        sheets: all finished.
        store: where they lie.
        held_out: splits whose images are the reference.
        batch_size: of the round trip.

    Raises:
        DataError: a held-out split is empty.
    """
    dataset, auditor = inputs.dataset, inputs.auditor
    real = Real.of(held_out_rows(dataset, held_out), dataset.space)
    images = {one.name: store.read(one) for one in sheets}
    scores = {name: _score(auditor, one) for name, one in images.items()}
    seen = _score(auditor, dataset.require_images(), real.store)
    returned, error = [], PixelError(0, 0, 0.0)
    for start in range(0, real.rows.height, _CHUNK):
        rows = real.store[start : start + _CHUNK]
        back = round_trip(inputs.generator, dataset.require_images(), rows, batch_size)
        error = error.with_more(pixel_error(dataset.require_images(), rows, back))
        returned.append(_score(auditor, back))
    if not all(np.isfinite(one).all() for one in (*scores.values(), seen)):
        raise DataError("the auditor gives a score that is not a number. Train another one.")
    train = unseen = dataset.split("train")
    if inputs.auditor_half:
        learned = half(dataset, inputs.auditor_half)["patient_id"].implode()
        unseen = train.filter(~pl.col("patient_id").is_in(learned))
    with_it = next(one for one in sheets if one.name == WITH)
    screened = inputs.about["screener"] is not None  # else every row is kept, and nobody has looked
    told = inputs.provenance["verdict"].to_list() if screened else [None] * inputs.provenance.height
    verdict = [told[place] if place >= 0 else None for place in store.taken_over(with_it).tolist()]
    return Material(
        inputs,
        tuple(findings),
        {one.name: one for one in sheets},
        images,
        scores,
        Real.of(train, dataset.space),
        Real.of(unseen, dataset.space),
        real,
        seen,
        np.concatenate(returned),
        error,
        verdict,
    )


def _score(auditor: LoadedModel, images: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    return calibrated(score_images(auditor, images, rows), auditor.temperature or 1.0)
