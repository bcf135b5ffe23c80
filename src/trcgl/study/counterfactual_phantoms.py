"""What a study knows about the lesions of its test images, and test phantoms redrawn with or without a finding.

Area comes from the drawing program on phantoms and from boxes elsewhere; contrast is known on phantoms alone. Phantoms
of a dataset folder are drawn again from its options, so that a folder needs to keep neither masks nor counterfactuals.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.progress import track
from trcgl.dataset.sources.phantom import Options, options_of, specification
from trcgl.dataset.store import Dataset, write_images
from trcgl.imaging.radiograph import fit_square
from trcgl.phantom.counterfactual import flipped, lesion
from trcgl.phantom.render import Phantom, render
from trcgl.study.worker import Job, stop_when_orphaned

FOLDER = "causes"
"""Of what is drawn for the whole study, within its folder."""
ROUNDING = 2
"""Gray levels by which another processor may draw otherwise."""
LESIONS = {"image_id": pl.String, "finding": pl.String, "area": pl.Float64, "contrast": pl.Float64}


def lesions(opened: Dataset, rows: pl.DataFrame, findings: Sequence[str], out: Path) -> pl.DataFrame:
    """How the findings show in the images that have them.

    Args:
        opened: the dataset.
        rows: of its manifest.
        findings: to look at.
        out: the study folder, which keeps what was drawn.

    Returns:
        image_id, finding, area as a share of the image, contrast as a share of the gray range (null where unknown).

    Raises:
        DataError: nothing is known about lesions: there are neither boxes nor phantoms that can be drawn again.
    """
    if opened.info["source"] != "phantom":
        if opened.boxes is None:
            raise DataError("the dataset has no boxes, so that the size of lesions is not known")
        return (
            opened.boxes.filter(pl.col("finding").is_in(list(findings)))
            .group_by("image_id", "finding", maintain_order=True)
            .agg(area=(pl.col("w") * pl.col("h")).sum(), contrast=pl.lit(None, pl.Float64))
        )
    path = out / FOLDER / "lesions.parquet"
    if not path.exists():
        made = pl.DataFrame(list(_lesions(opened, rows, findings)), LESIONS, orient="row")
        with storage.atomic(path) as aside:
            made.write_parquet(aside)
    return pl.read_parquet(path)


def render_flipped(opened: Dataset, rows: pl.DataFrame, partner: str, out: Path) -> Path:
    """Draw the rows again, with a finding if they have it not and without it if they have.

    Args:
        opened: a dataset of phantoms.
        rows: of its manifest.
        partner: the finding that is flipped.
        out: the study folder.

    Returns:
        A file of images in the order of the rows.

    Raises:
        DataError: they are no phantoms, or the drawing program no longer draws what is stored.
    """
    if opened.info["source"] != "phantom":
        raise DataError("only phantoms can be redrawn with another finding")
    path = out / FOLDER / f"flipped-{opened.space.index(partner)}.npy"
    if path.exists():
        return path
    options = options_of(opened.folder)
    side, fit = opened.info["image_size"], opened.info["fit"]
    _same(opened, rows.row(0, named=True), options)

    def pictures() -> Iterator[np.ndarray]:
        for image in track(rows["image_id"].to_list(), what=f"redrawing phantoms, {partner} flipped"):
            yield fit_square(render(flipped(specification(image, options), partner)).pixels, side, fit)[0]

    path.parent.mkdir(parents=True, exist_ok=True)
    write_images(path, pictures(), rows.height, side)
    return path


@dataclass(frozen=True)
class Scoring:
    """Redrawn images that a run has to score.

    Args:
        job: the run, finished.
        images: the file.
        path: where the scores go: (images, findings) in an npy file.
    """

    job: Job
    images: Path
    path: Path


def score_counterfactuals(tasks: Sequence[Scoring], say: Connection) -> None:
    """Score redrawn images with the models of finished runs; for a process of its own."""
    from trcgl.metrics.calibrate import calibrated
    from trcgl.model.folder import best_device, load_model
    from trcgl.model.scoring import score_images

    os.setpgid(0, 0)  # Ctrl-C is for the study, which then asks this process to stop
    stop_when_orphaned()
    for task in track(tasks, what="scoring redrawn phantoms, run"):
        model = load_model(task.job.folder / "model", device=best_device())
        logits = score_images(model, np.load(task.images, mmap_mode="r"))
        with storage.atomic(task.path) as aside, open(aside, "wb") as handle:
            np.save(handle, calibrated(logits, model.temperature or 1.0).astype(np.float32), allow_pickle=False)


def _lesions(opened: Dataset, rows: pl.DataFrame, findings: Sequence[str]) -> Iterator[tuple[str, str, float, float]]:
    options = options_of(opened.folder)
    some = rows.filter(pl.any_horizontal(pl.col(list(findings)) == 1))
    for row in track(some.iter_rows(named=True), total=some.height, what="redrawing phantoms without a finding"):
        phantom = _same(opened, row, options)
        for finding in findings:
            if row[finding] == 1:
                shown = lesion(specification(row["image_id"], options), finding, phantom)
                if shown:
                    yield row["image_id"], finding, shown.area, shown.contrast


def _same(opened: Dataset, row: dict[str, Any], options: Options) -> Phantom:
    """Draw a phantom of the dataset again, and see that it is the one that is stored."""
    phantom = render(specification(row["image_id"], options))
    stored = opened.require_images()[row["row"]].astype(np.int64)
    again = fit_square(phantom.pixels, opened.info["image_size"], opened.info["fit"])[0]
    if np.abs(again - stored).max() > ROUNDING:
        raise DataError(
            f"{row['image_id']} is drawn otherwise today than when {opened.folder} was prepared; prepare it again "
            "with this version"
        )
    return phantom
