"""`trcgl explain`: for each radiograph, where the model looked for each finding, and how confident it was.

    trcgl explain runs/nih scans/ --out explained

Overlays have the full resolution of the file. A map says where a score came from; it does not say that it is right.
"""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, UInt8
from PIL import Image

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.notice import RESEARCH_USE
from trcgl.core.progress import track
from trcgl.dataset.manifest import label_array
from trcgl.dataset.store import Dataset
from trcgl.imaging.ahead_of_network import read_ahead
from trcgl.imaging.radiograph import Placement, at_most
from trcgl.model.folder import LoadedModel, best_device, load_model, model_folder
from trcgl.model.maps import Kind, best_kind, check_kind, maps
from trcgl.model.upsample import to_radiograph
from trcgl.predict.explained_page import ON_PAGE, Explained, figure, safe_name, write_page
from trcgl.predict.overlay import PAGE_SIDE, heat, jpeg, over, small_map

SCHEMA = "trcgl.explanation/1"
BATCH = 8


@dataclass(frozen=True)
class Shot:
    """One radiograph to explain.

    Args:
        image_id: what it is called.
        pixels: at full resolution.
        square: what the network takes.
        placement: from `pixels` to `square`.
        truth: 1 present, 0 absent, NaN unknown, in the model's order; None where nothing is known.
    """

    image_id: str
    pixels: UInt8[np.ndarray, "height width"]
    square: UInt8[np.ndarray, "side side"]
    placement: Placement
    truth: Float[np.ndarray, " findings"] | None


def open_model(folder: Path) -> LoadedModel:
    """The model of a run folder, or of the model folder in it, on the GPU where there is one.

    Raises:
        CheckpointError: the model folder is missing or damaged.
    """
    return load_model(model_folder(folder), device=best_device())


def of_files(model: LoadedModel, files: dict[str, Path]) -> Iterator[Shot | tuple[str, str]]:
    """Each file as a shot, or its name and the reason that it cannot be read.

    Args:
        model: that will look at them.
        files: image_id to path, of `trcgl.predict.inputs.find_files`.
    """
    scale = model.image_size / model.shape[0]
    with closing(read_ahead(files.items(), [model.shape], ahead=BATCH, whole=True)) as reading:
        for name, read in reading:
            if isinstance(read, str):
                yield name, read
                continue
            assert read.preview is not None
            pixels = np.asarray(Image.open(io.BytesIO(read.preview)))
            square = model.resized(read.pictures[0][None])[0]
            yield Shot(name, pixels, square, Placement(*(scale * number for number in read.placements[0])), None)


def of_rows(model: LoadedModel, dataset: Dataset, images: Sequence[str]) -> Iterator[Shot]:
    """Rows of a dataset as shots, with their labels.

    Args:
        model: that will look at them.
        dataset: holds the images, made square as the model's.
        images: image_id of each.

    Raises:
        DataError: the dataset has no such image, or images that were made square otherwise.
    """
    store = dataset.require_images()
    check_fit(model, dataset)
    manifest = dataset.manifest.filter(pl.col("image_id").is_in(list(images)))
    if missing := sorted(set(images) - set(manifest["image_id"])):
        raise DataError(f"{dataset.folder} has no image {missing[0]!r}. Take the names from its manifest.parquet.")
    labels = dict(zip(manifest["image_id"], label_array(manifest, dataset.space), strict=True))
    rows = dict(manifest.select("image_id", "row").iter_rows())
    known = {one: place for place, one in enumerate(dataset.space.findings)}

    def shot(name: str) -> Shot:
        pixels = np.array(store[rows[name]])
        square = model.resized(pixels[None])[0]
        scale = model.image_size / len(pixels)
        own = [labels[name][known[one]] if one in known else np.nan for one in model.space.findings]
        return Shot(name, pixels, square, Placement(scale, scale, 0.0, 0.0), np.array(own))

    return map(shot, dict.fromkeys(images))


def check_fit(model: LoadedModel, dataset: Dataset) -> None:
    """Refuse images that were made square otherwise than the model's.

    Raises:
        DataError: they were.
    """
    if dataset.info["fit"] != model.fit:
        raise DataError(
            f"{dataset.folder} was prepared with --fit {dataset.info['fit']}, the model with {model.fit}. "
            f"Prepare it with --fit {model.fit}."
        )


def explain(
    model: LoadedModel,
    shots: Iterator[Shot | tuple[str, str]],
    inputs: Sequence[str],
    out: Path,
    *,
    kind: Kind | None = None,
    findings: Sequence[str] = (),
    top: int = 4,
    phantom: bool = False,
) -> dict[str, Any]:
    """Write overlays, one figure per radiograph, a page and `explanation.json` into a folder.

    Args:
        model: whose scores are explained.
        shots: of `of_files` or `of_rows`.
        inputs: what tells each from every other, so that a folder never holds two explanations.
        out: new, or of the same command on the same radiographs.
        kind: of maps; None takes `best_kind`.
        findings: which to draw; none takes those that the model calls, then the highest scores, and what is present.
        top: how many to draw where `findings` is empty.
        phantom: whether the images were drawn by a program.

    Returns:
        The document of schema `trcgl.explanation/1`, as written.

    Raises:
        DataError: a finding is unknown, or not one file can be read.
        RecipeError: the folder holds something else, or the head has no such maps.
    """
    wanted = [model.space.index(one) for one in findings]
    if top < 1:
        raise DataError(f"--top {top}: at least one finding has to be drawn.")
    kind = kind or best_kind(model)
    check_kind(model, kind)
    settings = {
        "weights_sha256": model.info["weights_sha256"],
        "kind": kind,
        "findings": list(findings),
        "top": top,
        "radiographs": storage.digest(list(inputs)),
    }
    unreadable: list[dict[str, str]] = []
    told: list[Explained] = []
    shown = track(shots, total=len(inputs), what="explaining radiographs")
    while part := list(islice(shown, BATCH)):
        unreadable += [{"image_id": one[0], "reason": one[1]} for one in part if isinstance(one, tuple)]
        if read := [one for one in part if isinstance(one, Shot)]:
            if not told:  # a folder of which nothing comes would refuse the command that is put right
                storage.claim(out, "settings.json", json.dumps(settings, indent=2) + "\n")
            squares = np.stack([one.square for one in read])
            for shot, scores, grids in zip(read, model.score(squares), maps(model, squares, kind), strict=True):
                drawn = wanted or _most_telling(model, scores, shot.truth, top)
                told.append(_write(model, shot, scores, grids, drawn, out, len(told) + 1))
    if not told:
        raise DataError(f"not one of {len(inputs)} files can be read, the first because: {unreadable[0]['reason']}")
    page = Path("explanation.html")
    write_page(out / page, told, model, kind, unreadable, phantom=phantom)
    document = {
        "schema": SCHEMA,
        "kind": kind,
        "weights_sha256": model.info["weights_sha256"],
        "calibrated": model.thresholds is not None,
        "findings": list(model.space.findings),
        "images": [one.to_dict(model.space.findings) for one in told],
        "unreadable": unreadable,
        "page": str(page),
        "research_use": RESEARCH_USE,
    }
    storage.write_json(out / "explanation.json", document)
    return document


def _most_telling(
    model: LoadedModel, scores: Float[np.ndarray, " findings"], truth: Float[np.ndarray, " findings"] | None, top: int
) -> list[int]:
    """What the model calls, then the highest scores; and, however it scored, what is present."""
    cuts = np.array([(model.thresholds or {}).get(one, np.inf) for one in model.space.findings])
    order = np.lexsort((-scores, scores < cuts))[:top].tolist()
    present = [] if truth is None else np.flatnonzero(truth == 1).tolist()
    return order + [one for one in present if one not in order]


def _write(
    model: LoadedModel,
    shot: Shot,
    scores: Float[np.ndarray, " findings"],
    grids: Float[np.ndarray, "findings rows columns"],
    drawn: list[int],
    out: Path,
    number: int,
) -> Explained:
    name = safe_name(f"{number:04d}-{shot.image_id}")
    overlays, layers = {}, {}
    for column in drawn:
        # One finding at a time: the map of a radiograph of ten million pixels has 40 MB.
        values = to_radiograph(grids[column], shot.pixels.shape, shot.placement, model.image_size)
        path = Path("overlays", name, f"{safe_name(model.space.findings[column])}.jpg")
        with storage.atomic(out / path) as aside:
            aside.write_bytes(jpeg(over(shot.pixels, heat(values))))
        overlays[column] = path.as_posix()
        layers[column] = small_map(grids[column], shot.pixels.shape, shot.placement, model.image_size)
    told = Explained(
        shot.image_id, at_most(shot.pixels, PAGE_SIDE), layers, scores, shot.truth, overlays, f"figures/{name}.png"
    )
    drawing = figure(told, model.space, model.thresholds)
    with storage.atomic(out / told.figure) as aside:
        drawing.savefig(aside, format="png", dpi=150)
    return told if number <= ON_PAGE else replace(told, layers={})
