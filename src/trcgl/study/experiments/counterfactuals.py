"""Area and contrast of the lesions of test images, and counterfactual phantoms with one finding added or removed.

Area comes from the phantom program or from boxes; contrast is known for phantoms only. Phantoms of a dataset folder are
rendered again from its options, so the folder stores neither masks nor counterfactuals.
"""

import os
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.progress import track
from trcgl.dataset.sources.phantom import Options, options_of, specification
from trcgl.dataset.store import Dataset, write_images
from trcgl.imaging.radiograph import fit_square
from trcgl.phantom.render import Phantom, flipped, lesion, render
from trcgl.study.worker import Job, stop_when_orphaned

FOLDER = "causes"
"""Folder of lesions and counterfactual phantoms, within the study folder."""
ROUNDING = 2
"""Gray levels by which renderings on other processors may differ."""
LESIONS = {"image_id": pl.String, "finding": pl.String, "area": pl.Float64, "contrast": pl.Float64}


def lesions(opened: Dataset, rows: pl.DataFrame, findings: Sequence[str], out: Path) -> pl.DataFrame:
    """Area and contrast of the findings in the images that have them; the study folder `out` keeps the table.

    Returns:
        image_id, finding, area as a share of the image, contrast as a share of the gray range (null where unknown).
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
        storage.write_parquet(path, pl.DataFrame(list(_lesions(opened, rows, findings)), LESIONS, orient="row"))
    return pl.read_parquet(path)


def render_flipped(opened: Dataset, rows: pl.DataFrame, partner: str, out: Path) -> Path:
    """Render phantoms with one finding added where it is absent and removed where it is present.

    Returns:
        A file in the study folder with the images in the order of the rows.
    """
    if opened.info["source"] != "phantom":
        raise DataError("only phantoms can be rendered with another finding")
    path = out / FOLDER / f"flipped-{opened.space.index(partner)}.npy"
    if path.exists():
        return path
    options = options_of(opened.folder)
    side, fit = opened.info["image_size"], opened.info["fit"]
    _render_again(opened, rows.row(0, named=True), options)

    def images() -> Iterator[np.ndarray]:
        for image in track(rows["image_id"].to_list(), what=f"rendering phantoms, {partner} flipped"):
            yield fit_square(render(flipped(specification(image, options), partner)).pixels, side, fit)[0]

    path.parent.mkdir(parents=True, exist_ok=True)
    write_images(path, images(), rows.height, side)
    return path


class Scoring(NamedTuple):
    """Counterfactual images for a finished run to score."""

    job: Job
    images: Path
    path: Path  # npy file to write, scores (images, findings)


def score_counterfactuals(tasks: Sequence[Scoring], sender: Connection) -> None:
    """Score counterfactual images with the models of finished runs; runs in its own process."""
    from trcgl.metrics.calibrate import calibrated
    from trcgl.model.folder import best_device, load_model
    from trcgl.model.scoring import score_images

    os.setpgid(0, 0)  # Ctrl-C reaches the study only, which then asks this process to stop
    stop_when_orphaned()
    for task in track(tasks, what="scoring counterfactual phantoms, run"):
        model = load_model(task.job.folder / "model", device=best_device())
        logits = score_images(model, np.load(task.images, mmap_mode="r"))
        with storage.atomic(task.path) as aside, open(aside, "wb") as handle:
            np.save(handle, calibrated(logits, model.temperature or 1.0).astype(np.float32), allow_pickle=False)


def _lesions(opened: Dataset, rows: pl.DataFrame, findings: Sequence[str]) -> Iterator[tuple[str, str, float, float]]:
    options = options_of(opened.folder)
    some = rows.filter(pl.any_horizontal(pl.col(list(findings)) == 1))
    for row in track(some.iter_rows(named=True), total=some.height, what="rendering phantoms without a finding"):
        phantom = _render_again(opened, row, options)
        for finding in findings:
            if row[finding] == 1:
                shown = lesion(specification(row["image_id"], options), finding, phantom)
                if shown:
                    yield row["image_id"], finding, shown.area, shown.contrast


def _render_again(opened: Dataset, row: dict[str, Any], options: Options) -> Phantom:
    """Render a phantom of the dataset again, and check that it equals the stored image."""
    phantom = render(specification(row["image_id"], options))
    stored = opened.require_images()[row["row"]].astype(np.int64)
    again = fit_square(phantom.pixels, opened.info["image_size"], opened.info["fit"])[0]
    if np.abs(again - stored).max() > ROUNDING:
        raise DataError(
            f"{row['image_id']} is rendered differently than when {opened.folder} was prepared; prepare it again "
            "with this version"
        )
    return phantom
