"""What an audit draws, and the drawing of it: sheets of images, each finished sheet kept, none drawn twice.

Each audited finding has images *with* it, which are the plan of the synthetic folder continued, and as many of the
same label sets and seeds *without* it. What the synthetic folder holds already is taken over pixel for pixel.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
from jaxtyping import UInt8

from trcgl.core.progress import track
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import Dataset, write_images
from trcgl.generate.pipeline import Generator
from trcgl.generate.plan import guided, plan, prompt_of
from trcgl.generate.sampling_run import (
    SamplingSettings,
    image_parts,
    prepare_network,
    prompts_of,
    read_images,
    sample_parts,
)
from trcgl.generate.solver import Solver

WITH, WITHOUT, NORMALS = "with", "without", "normals"
SWEEP = (1.0, 1.5, 3.0, 5.0, 7.5)
"""Guidance scales that are compared."""


@dataclass(frozen=True)
class Sheet:
    """Images that are drawn in one way.

    Args:
        name: of its files.
        rows: a plan; columns of `trcgl.generate.plan.SCHEMA` and `guidance`. `target` is the audited finding also where
            the prompt leaves it out.
        context: with the learned context tokens.
    """

    name: str
    rows: pl.DataFrame
    context: bool = True


@dataclass(frozen=True)
class Store:
    """Where the sheets lie, and the images of the synthetic folder that need not be drawn again.

    Args:
        folder: of the sheets.
        drawn: of the synthetic folder: image_id, seed, prompt, guidance and row of `images`; empty where it was drawn
            otherwise.
        images: of the synthetic folder.
        context: it was drawn with learned context tokens.
    """

    folder: Path
    drawn: pl.DataFrame
    images: UInt8[np.ndarray, "rows side side"]
    context: bool

    def path(self, sheet: Sheet) -> Path:
        """The images of a sheet."""
        return self.folder / f"{sheet.name}.npy"

    def read(self, sheet: Sheet) -> UInt8[np.ndarray, "rows side side"]:
        """The images of a finished sheet, memory-mapped, in the order of its rows."""
        return np.load(self.path(sheet), mmap_mode="r", allow_pickle=False)

    def taken_over(self, sheet: Sheet) -> np.ndarray:
        """For each row of a sheet its place in the synthetic folder; -1 for those that must be drawn."""
        if sheet.context != self.context:
            return np.full(sheet.rows.height, -1)
        same = ["image_id", "seed", "prompt", "guidance"]
        there = sheet.rows.join(self.drawn, on=same, how="left", maintain_order="left")
        return there["row"].fill_null(-1).to_numpy()


def main_sheets(
    dataset: Dataset,
    findings: Sequence[str],
    each: int,
    seed: int,
    guidance: float,
    guidance_for: Mapping[str, float],
    learned: bool,
) -> list[Sheet]:
    """Every finding with and without, and normal radiographs for the shortcut probe.

    Args:
        dataset: the real one.
        findings: audited.
        each: images of each.
        seed: of the plan of the synthetic folder.
        guidance: its scale.
        guidance_for: targets that it drew with another one.
        learned: whether the generator uses context tokens.
    """

    def planned(targets: Sequence[str]) -> pl.DataFrame:
        # A finding that also keeps the balance is planned more often than asked for.
        rows = first(plan(dataset, targets, each=each, seed=seed), each).filter(pl.col("target").is_in(list(targets)))
        return guided(rows, guidance, {one: scale for one, scale in guidance_for.items() if one in targets})

    with_it = planned(findings)
    sheets = [Sheet(WITH, with_it, learned), Sheet(WITHOUT, without(with_it, dataset.space), learned)]
    normal = dataset.space.normal
    if normal and normal not in findings:
        sheets.append(Sheet(NORMALS, planned((normal,)), learned))
    return sheets


def side_sheets(
    with_it: pl.DataFrame,
    space: LabelSpace,
    *,
    sweep_each: int,
    handwritten_each: int,
    learned: bool,
) -> list[Sheet]:
    """The first images of each finding again: without context tokens, and at other guidance scales.

    Args:
        with_it: rows of the sheet `with`; the sweep leaves out the scale that all of them have.
        space: of the dataset.
        sweep_each: images of each finding at each scale; 0 for none.
        handwritten_each: images of each finding without context tokens; 0 for none.
        learned: whether the generator uses context tokens.
    """
    sheets = []
    if handwritten_each and learned:
        rows = first(with_it, handwritten_each)
        sheets += [
            Sheet(f"handwritten-{WITH}", rows, False),
            Sheet(f"handwritten-{WITHOUT}", without(rows, space), False),
        ]
    for scale in SWEEP if sweep_each else ():
        if scale != own_guidance(with_it):
            rows = first(with_it, sweep_each).with_columns(guidance=pl.lit(scale))
            sheets += [
                Sheet(f"guidance-{scale:g}-{WITH}", rows, learned),
                Sheet(f"guidance-{scale:g}-{WITHOUT}", without(rows, space), learned),
            ]
    return sheets


def own_guidance(rows: pl.DataFrame) -> float | None:
    """The scale that all rows have; None where they differ."""
    scales = rows["guidance"].unique().to_list()
    return scales[0] if len(scales) == 1 else None


def first(rows: pl.DataFrame, each: int) -> pl.DataFrame:
    """The first rows of each target, in their order."""
    return rows.filter(pl.int_range(pl.len()).over("target") < each)


def without(with_it: pl.DataFrame, space: LabelSpace) -> pl.DataFrame:
    """The same label sets and seeds, the target left out; where nothing is left, normal, or a plain radiograph."""
    rows = []
    for row in with_it.iter_rows(named=True):
        left = [one for one in row["findings"] if one != row["target"]]
        if not left and space.normal and space.normal != row["target"]:
            left = [space.normal]
        words = prompt_of(left, space, row["seed"]).text
        rows.append({**row, "image_id": f"{row['image_id']}-without", "findings": left, "prompt": words})
    return pl.DataFrame(rows, schema=with_it.schema)


def check_prompts(generator: Generator, sheets: Sequence[Sheet]) -> None:
    """Every label set fits into the text encoder, known before the first image is drawn.

    Raises:
        DataError: one does not.
    """
    for sheet in sheets:
        for one in prompts_of(generator, sheet.rows.unique("findings", maintain_order=True)):
            generator.ids(one)


def sample_sheets(
    generator: Generator,
    sheets: Sequence[Sheet],
    store: Store,
    *,
    side: int,
    steps: int,
    guided_to: float,
    solver: Solver,
    batch_size: int,
    precision: Literal["32-true", "bf16"],
    device: torch.device,
) -> None:
    """Draw what is missing; an interrupted call continues in the part where it stopped.

    Args:
        generator: to draw with.
        sheets: all of the audit.
        store: where they lie.
        side: of the stored images, in pixels.
        steps: denoising steps.
        guided_to: log-SNR up to which guidance steers.
        solver: DPM-Solver++ or DDIM.
        batch_size: images that are drawn at once.
        precision: of the network.
        device: to draw on.

    Raises:
        DataError: the disk is full.
    """
    todo = [sheet for sheet in sheets if not store.path(sheet).exists()]
    if not todo:
        return
    store.folder.mkdir(parents=True, exist_ok=True)
    for unfinished in store.folder.rglob(".*.part"):  # of a killed process
        unfinished.unlink()
    prepare_network(generator, device, precision, False)
    enabled = generator.context.enabled
    places = {sheet.name: store.taken_over(sheet) for sheet in todo}
    missing = sum(int((place < 0).sum()) for place in places.values())

    def work() -> Iterator[int]:
        for sheet in todo:
            how = SamplingSettings(side, steps, guided_to, solver, batch_size)
            generator.context.enabled = enabled and sheet.context
            yield from _draw(generator, sheet, places[sheet.name], store, how)

    try:
        for _ in track(work(), missing, "drawing radiographs", unit="images"):
            pass
    finally:
        generator.context.enabled = enabled


def _draw(generator: Generator, sheet: Sheet, place: np.ndarray, store: Store, how: SamplingSettings) -> Iterator[int]:
    rows = sheet.rows.filter(pl.Series(place < 0, dtype=pl.Boolean))
    parts = image_parts(store.folder / f"{sheet.name}-parts", rows.height)
    if rows.height:
        yield from sample_parts(generator, rows, parts, parts.missing(), how)
    drawn = list(read_images(parts))
    images = np.empty((sheet.rows.height, how.side, how.side), np.uint8)
    images[place < 0] = np.concatenate(drawn) if drawn else images[:0]
    images[place >= 0] = store.images[place[place >= 0]]
    write_images(store.path(sheet), [images], len(images), how.side)
    parts.clear()


def sampled_alike(
    provenance: pl.DataFrame,
    *,
    generator: str,
    steps: int,
    solver: str,
    drawn_in: str,
    precision: str,
) -> pl.DataFrame:
    """Rows of a synthetic folder that this audit would draw the same, at the same guidance.

    Args:
        provenance: of the synthetic folder, in the order of its images.
        generator: digest of the audited one.
        steps: of the audit.
        solver: of the audit.
        drawn_in: precision of the synthetic folder.
        precision: of the audit.
    """
    alike = (
        (pl.col("generator") == generator)
        & (pl.col("steps") == steps)
        & (pl.col("solver") == solver)
        & pl.lit(drawn_in == precision)
    )
    same = ("image_id", "seed", "prompt", "guidance", pl.col("row").cast(int))
    return provenance.with_row_index("row").filter(alike).select(same)


def size_of(sheets: Sequence[Sheet]) -> int:
    """Images in all."""
    return sum(sheet.rows.height for sheet in sheets)
