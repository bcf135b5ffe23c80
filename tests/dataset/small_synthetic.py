"""A synthetic folder for the small dataset, as `trcgl synthesize` writes it, without a generator."""

import numpy as np
import polars as pl

from trcgl.core import storage
from trcgl.dataset.manifest import SCHEMA
from trcgl.dataset.store import open_dataset


def write_synthetic(folder, dataset, *, targets=None, rejected=(), patients=None, side=None, **about):
    """Write images of each target, each with the labels of a real training row; return the folder.

    Args:
        folder: folder to write.
        dataset: folder of the real dataset.
        targets: finding to its number of images.
        rejected: indices of images that did not pass screening.
        patients: patient of each image, instead of the patients of the source rows.
        side: side of the images, instead of the dataset's.
        about: other fields of `dataset.json`.
    """
    real, targets = open_dataset(dataset), targets or {"Hernia": 8, "Normal": 4, "Mass": 4}
    space, side = real.space, side or real.images.shape[1]
    rows, images = [], []
    for target, number in targets.items():
        sources = real.split("train").filter(pl.col(target) == 1)
        for index in range(number):
            source = sources.row(index % sources.height, named=True)
            shown = [finding for finding in space.findings if source[finding] == 1]
            known = dict.fromkeys(space.findings, 0) if target == space.normal else dict.fromkeys(space.findings)
            rows.append(
                {
                    "source_image_id": source["image_id"],
                    "image_id": f"drawn-{target}-{index:03d}",
                    "patient_id": patients[len(rows)] if patients else source["patient_id"],
                    "target": target,
                    **known,
                    **dict.fromkeys(shown, 1),
                }
            )
            images.append(255 - np.resize(real.images[source["row"]], (side, side)))
    labels = {finding: pl.Series([row[finding] for row in rows], dtype=pl.Int8) for finding in space.findings}
    empty = {name: pl.Series([None] * len(rows), dtype=kind) for name, kind in SCHEMA.items()}
    named = {name: [row[name] for row in rows] for name in ("image_id", "patient_id")}
    known = {"split": ["train"] * len(rows), "label_source": ["synthetic"] * len(rows), "row": range(len(rows))}
    weight = {"weight": [1.0] * len(rows)}
    manifest = pl.DataFrame({**empty, **named, **known, **weight, **labels}, schema_overrides=SCHEMA)
    verdicts = ["rejected: blank" if place in rejected else "kept" for place in range(len(rows))]
    provenance = pl.DataFrame(
        {
            "image_id": named["image_id"],
            "source_image_id": [row["source_image_id"] for row in rows],
            "target": [row["target"] for row in rows],
            "verdict": verdicts,
        }
    )
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", np.array(images))
    manifest.write_parquet(folder / "manifest.parquet")
    provenance.write_parquet(folder / "provenance.parquet")
    info = {
        "schema": "trcgl.dataset/1",
        "name": folder.name,
        "source": "synthetic",
        "label_space": space.to_dict(),
        "fit": "letterbox",
        "files": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": storage.sha256_file(folder / name)}
            for name in ("images.npy", "manifest.parquet", "provenance.parquet")
        },
        "synthetic": {"dataset": real.name, "dataset_digest": storage.sha256_file(dataset / "dataset.json")},
    }
    storage.write_json(folder / "dataset.json", info | about)
    return folder
