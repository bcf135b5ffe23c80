"""The images that an audit generates: sheets, which are generated once and kept.

Each audited finding has images *with* it, which start with those of the synthetic folder, and the same number of images
*without* it, from the same label sets and seeds. Images that the synthetic folder already has are reused pixel for
pixel.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from jaxtyping import UInt8

from trcgl.core.progress import track
from trcgl.dataset.store import Dataset, write_images
from trcgl.generate.pipeline import Generator
from trcgl.generate.pixel_sources import with_pixel_sources
from trcgl.generate.plan import guided, plan, prompt_of
from trcgl.generate.prompts import PromptFormat
from trcgl.generate.sampling_run import SamplingSettings, image_parts, prepare_network, read_images, sample_parts

WITH, WITHOUT, NORMALS = "with", "without", "normals"
SWEEP = (1.0, 1.5, 3.0, 5.0, 7.5)  # guidance scales that are compared


@dataclass(frozen=True)
class Sheet:
    """Images that are generated with the same settings."""

    name: str  # name of its files
    # a plan; columns of `trcgl.generate.plan.SCHEMA` and `guidance`. `target` is the audited finding also where
    # the prompt leaves it out
    rows: pl.DataFrame
    context: bool = True  # use the learned context tokens


@dataclass(frozen=True)
class Store:
    """Folder of the sheets, and the images of the synthetic folder that need not be generated again."""

    folder: Path  # folder of the sheets
    # images of the synthetic folder that the audit would generate alike: image_id, seed, prompt, guidance and
    # row of `images`
    reusable: pl.DataFrame
    images: UInt8[np.ndarray, "rows side side"]  # images of the synthetic folder
    context: bool  # whether it was generated with learned context tokens

    def path(self, sheet: Sheet) -> Path:
        """File of a sheet."""
        return self.folder / f"{sheet.name}.npy"

    def read(self, sheet: Sheet) -> UInt8[np.ndarray, "rows side side"]:
        """The images of a finished sheet, memory-mapped, in the order of its rows."""
        return np.load(self.path(sheet), mmap_mode="r", allow_pickle=False)

    def taken_over(self, sheet: Sheet) -> np.ndarray:
        """For each row of a sheet its place in the synthetic folder; -1 if it must be generated."""
        if sheet.context != self.context:
            return np.full(sheet.rows.height, -1)
        same = ["image_id", "seed", "prompt", "guidance"]
        there = sheet.rows.join(self.reusable, on=same, how="left", maintain_order="left")
        return there["row"].fill_null(-1).to_numpy()


def main_sheets(
    dataset: Dataset,
    prompts: PromptFormat,
    findings: Sequence[str],
    each: int,
    options: Mapping[str, Any],
    learned: bool,
) -> list[Sheet]:
    """Images with and without every finding, and normal radiographs for the shortcut check.

    Options of the synthetic folder: `seed`, `views`, `guidance`, `guidance_for`, `from_real` and `source_images`.
    """

    def planned(targets: Sequence[str]) -> pl.DataFrame:
        # A plan holds more images of findings that also balance it.
        rows = plan(dataset, targets, each=each, seed=options["seed"], views=options["views"], prompts=prompts)
        rows = first(rows, each).filter(pl.col("target").is_in(list(targets)))
        own_scales = {name: scale for name, scale in options["guidance_for"].items() if name in targets}
        rows = guided(rows, options["guidance"], own_scales)
        return with_pixel_sources(rows, dataset, options["source_images"]) if options["from_real"] else rows

    with_it = planned(findings)
    sheets = [Sheet(WITH, with_it, learned), Sheet(WITHOUT, without(with_it, prompts), learned)]
    normal = dataset.space.normal
    if normal and normal not in findings:
        sheets.append(Sheet(NORMALS, planned((normal,)), learned))
    return sheets


def side_sheets(
    with_it: pl.DataFrame, prompts: PromptFormat, *, sweep_each: int, handwritten_each: int, learned: bool
) -> list[Sheet]:
    """Sheets that repeat the first images of each finding without context tokens and at other guidance scales.

    Zero images per finding skip a comparison; the sweep skips a guidance scale that all rows of `with_it` already have.
    """

    def pair(name: str, rows: pl.DataFrame, context: bool) -> list[Sheet]:
        counterparts = without(rows, prompts)
        return [Sheet(f"{name}-{WITH}", rows, context), Sheet(f"{name}-{WITHOUT}", counterparts, context)]

    sheets = pair("handwritten", first(with_it, handwritten_each), False) if handwritten_each and learned else []
    for scale in SWEEP if sweep_each else ():
        if scale != own_guidance(with_it):
            rows = first(with_it, sweep_each).with_columns(guidance=pl.lit(scale))
            sheets += pair(f"guidance-{scale:g}", rows, learned)
    return sheets


def own_guidance(rows: pl.DataFrame) -> float | None:
    """The guidance scale of all rows; None if they differ."""
    scales = rows["guidance"].unique().to_list()
    return scales[0] if len(scales) == 1 else None


def first(rows: pl.DataFrame, each: int) -> pl.DataFrame:
    """The first `each` rows of each target."""
    return rows.filter(pl.int_range(pl.len()).over("target") < each)


def without(with_it: pl.DataFrame, prompts: PromptFormat) -> pl.DataFrame:
    """The rows with the target removed from each label set; seeds are unchanged.

    A label set that is empty without its target becomes the normal finding, or stays empty if the label space has no
    normal finding.
    """
    rows, normal = [], prompts.space.normal
    for row in with_it.iter_rows(named=True):
        left = [finding for finding in row["findings"] if finding != row["target"]]
        if not left and normal and normal != row["target"]:
            left = [normal]
        prompt = prompt_of(left, prompts, row["seed"], row["view"]).text
        rows.append({**row, "image_id": f"{row['image_id']}-without", "findings": left, "prompt": prompt})
    return pl.DataFrame(rows, schema=with_it.schema)


def sample_sheets(
    generator: Generator,
    sheets: Sequence[Sheet],
    store: Store,
    settings: SamplingSettings,
    *,
    precision: Literal["32-true", "bf16"],
    device: torch.device,
) -> None:
    """Generate the sheets (sets of synthetic images) without a file in `store`; store them as they are finished.

    The images of a sheet are stored in parts; an interrupted call continues with the first part that is missing.
    """
    todo = [sheet for sheet in sheets if not store.path(sheet).exists()]
    if not todo:
        return
    store.folder.mkdir(parents=True, exist_ok=True)
    for unfinished in store.folder.rglob(".*.part"):  # left by a killed process
        unfinished.unlink()
    prepare_network(generator, device, precision, False)
    enabled = generator.context.enabled
    places = [store.taken_over(sheet) for sheet in todo]

    def work() -> Iterator[int]:
        for sheet, place in zip(todo, places, strict=True):
            generator.context.enabled = enabled and sheet.context
            yield from _sample(generator, sheet, place, store, settings)

    try:
        for _ in track(work(), int((np.concatenate(places) < 0).sum()), "generating radiographs", unit="images"):
            pass
    finally:
        generator.context.enabled = enabled


def _sample(
    generator: Generator, sheet: Sheet, place: np.ndarray, store: Store, settings: SamplingSettings
) -> Iterator[int]:
    rows = sheet.rows.filter(pl.Series(place < 0, dtype=pl.Boolean))
    parts = image_parts(store.folder / f"{sheet.name}-parts", rows.height)
    images = np.empty((sheet.rows.height, settings.side, settings.side), np.uint8)
    images[place >= 0] = store.images[place[place >= 0]]
    if rows.height:
        yield from sample_parts(generator, rows, parts, parts.missing(), settings)
        images[place < 0] = np.concatenate(list(read_images(parts)))
    write_images(store.path(sheet), [images], len(images), settings.side)
    parts.clear()


def sampled_alike(provenance: pl.DataFrame, options: Mapping[str, Any], generator: str, precision: str) -> pl.DataFrame:
    """Rows of a synthetic folder whose images this generator (digest) and precision would generate identically.

    `provenance` is in the order of the folder's images; `options` are the options of its synthesis.
    """
    made = {"generator": generator, "steps": options["steps"], "solver": options["solver"]}
    alike = pl.all_horizontal(pl.col(name) == value for name, value in made.items())
    same = ("image_id", "seed", "prompt", "guidance", pl.col("row").cast(int))
    return provenance.with_row_index("row").filter(alike & (options["precision"] == precision)).select(same)
