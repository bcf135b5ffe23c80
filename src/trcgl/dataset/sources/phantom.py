"""Phantoms: chest radiographs rendered by a program, with any finding of PadChest-30 and its true masks.

    trcgl prepare phantom --out phantom --size 96

No files are read and no --root is needed. The label sets are PadChest's with a chosen imbalance
(`trcgl.phantom.labels`). Train follows the long tail; val and test have at least `positives_per_finding` positives of
each finding, and `weight` in the manifest reweights them to the prevalence of train. An image depends only on the
options and its image_id.
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import UInt8

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.progress import track
from trcgl.core.randomness import generator
from trcgl.dataset.manifest import SPLITS
from trcgl.dataset.sources import SourceTable, reading
from trcgl.dataset.sources.padchest_findings import SPACE as PADCHEST30
from trcgl.phantom import labels
from trcgl.phantom.boxes import boxes
from trcgl.phantom.findings import FINDINGS
from trcgl.phantom.render import Phantom, PhantomSpec, render, render_masks

SPACE = replace(PADCHEST30, name="phantom", raw={name: (name,) for name in PADCHEST30.findings})
"""The findings and groups of PadChest-30."""


@dataclass(frozen=True)
class Options:
    """Size, imbalance and difficulty of the phantoms; the defaults are those of the phantom benchmark."""

    train_images: int = 4000
    """Number of training phantoms."""
    positives_per_finding: int = 100
    """Minimum number of positives of each finding in val and in test; each split has about 20 times as many images."""
    imbalance: float = 100.0
    """Positives of the most frequent finding in train, divided by positives of the rarest; 1054 in PadChest."""
    difficulty: float = 1.0
    """Difficulty d of the findings: lesion contrast is divided by d, lesion size by the cube root of d, and noise is
    multiplied by the square root of d."""
    size: int = 96
    """Side of a rendered phantom in pixels; give the same --size, else the image is resized."""
    seed: int = 0
    """Seed for labels, patients and images."""
    boxes: bool = True
    """Write boxes around the masks of the findings to `boxes.parquet`."""

    def __post_init__(self) -> None:
        if self.train_images < 1 or self.positives_per_finding < 1:
            raise DataError("phantoms: train_images and positives_per_finding must be 1 or more.")


def read(root: Path | None = None, options: Options | None = None) -> SourceTable:
    """Choose the patients and their findings; images are rendered when `prepare` asks for them."""
    options = options or Options()
    rows = _rows(options)
    return SourceTable(
        space=SPACE,
        rows=rows,
        dropped=pl.DataFrame(schema=reading.DROPPED_SCHEMA),
        boxes=_boxes(_specs(options)) if options.boxes else None,
        load=functools.partial(_load, options),
        counts={f"phantoms for {split}": int((rows["split"] == split).sum()) for split in SPLITS},
        box_frame=(options.size, options.size),
        license="Rendered by trcgl; no patient, no archive. Label-set frequencies are facts about PadChest's table.",
        notes=(
            "These images are phantoms, rendered by a program, not taken of patients: they are no clinical evidence.",
            "Val and test have many positives of rare findings; image weights restore the prevalence of train.",
        ),
    )


def render_again(image_id: str, options: Options | None = None) -> Phantom:
    """Render the phantom of a manifest row again, with the masks and facts that the dataset folder does not store.

    Args:
        image_id: as in the manifest.
        options: the options of the dataset, see `options_of`.

    Raises:
        DataError: the options give no such image.
    """
    return render(specification(image_id, options))


def specification(image_id: str, options: Options | None = None) -> PhantomSpec:
    """The specification of the phantom of a manifest row; change a field and `render` it for a counterfactual."""
    try:
        return _specs(options or Options())[image_id]
    except KeyError:
        raise DataError(
            f"{image_id}: no phantom of these options; take them from the dataset with `options_of`."
        ) from None


def options_of(folder: Path) -> Options:
    """The options that a dataset folder of phantoms was prepared with.

    Raises:
        DataError: the folder is no dataset, or its images are no phantoms.
    """
    settings = storage.read_json(Path(folder) / "prepare.json")
    if settings.get("source") != "phantom":
        raise DataError(f"{folder}: the images are no phantoms; they come from {settings.get('source')!r}.")
    try:
        return Options(**settings["source options"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder}/prepare.json lacks the options of phantoms ({error}).") from error


@functools.lru_cache(maxsize=4)
def _rows(options: Options) -> pl.DataFrame:
    members, _ = labels.padchest_label_sets()
    share = labels.benchmark(options.imbalance)
    spread = labels.evaluation(share)
    tables = []
    for split in SPLITS:
        rng = generator(options.seed, "phantom labels", split)
        if split == "train":
            chosen = labels.sample_evenly(share, options.train_images, rng)
            weight = np.ones(len(chosen))
        else:
            chosen = labels.sample_with_positives(spread, options.positives_per_finding, rng)
            weight = share[chosen] / spread[chosen]
            weight = weight / weight.mean()
        patient = labels.group_into_patients(chosen, rng)
        age, sex = labels.describe_patients(patient, members[chosen], rng)
        name = [f"phantom-{options.seed}-{split}-p{number:05d}" for number in patient]
        table = pl.DataFrame(
            {
                "image_id": [f"phantom-{options.seed}-{split}-{index:05d}" for index in range(len(chosen))],
                "patient_id": name,
                "study_id": [f"{person}-{index:05d}" for index, person in enumerate(name)],
                "view": "frontal",
                "split": split,
                "label_source": "phantom",
                "age": age,
                "sex": sex,
                "weight": weight,
            }
        )
        present = members[chosen].astype(np.int8)
        tables.append(
            table.with_columns(pl.Series(finding, present[:, place]) for place, finding in enumerate(FINDINGS))
        )
    return reading.in_order(pl.concat(tables), SPACE)


@functools.lru_cache(maxsize=4)
def _specs(options: Options) -> dict[str, PhantomSpec]:
    """Specification of every image_id, in the order of the rows."""
    return {
        row["image_id"]: PhantomSpec(
            seed=options.seed,
            patient=row["patient_id"],
            image=row["image_id"],
            findings=tuple(name for name in FINDINGS if row[name]),
            age=row["age"],
            sex=row["sex"],
            size=options.size,
            difficulty=options.difficulty,
        )
        for row in _rows(options).iter_rows(named=True)
    }


def _load(options: Options, row: int) -> UInt8[np.ndarray, "height width"]:
    return render(list(_specs(options).values())[row]).pixels


def _boxes(specs: dict[str, PhantomSpec]) -> pl.DataFrame:
    rows = [
        (image_id, finding, *map(float, box))
        for image_id, spec in track(specs.items(), total=len(specs), what="boxing findings")
        for finding, mask in render_masks(spec).items()
        for box in boxes(mask)
    ]
    schema = {"image_id": pl.String, "finding": pl.String, **dict.fromkeys("xywh", pl.Float64)}
    return pl.DataFrame(rows, schema=schema, orient="row")
