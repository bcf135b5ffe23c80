"""A dataset folder that a network can learn in seconds: each finding is a bright bar at a fixed place."""

import numpy as np
import polars as pl

from trcgl.core import storage
from trcgl.core.recipe import AugmentRecipe, ModelRecipe, Recipe, TrainRecipe
from trcgl.dataset.cooccurrence import counts
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.manifest import SCHEMA

SPACE = LabelSpace(
    "small",
    ("Mass", "Edema", "Hernia", "Normal"),
    {"Mass": "head", "Edema": "medium", "Hernia": "tail", "Normal": "head"},
    "name",
    normal="Normal",
    normal_in_means=False,
)
SIDE = 32


def write_dataset(
    folder,
    *,
    train=44,
    val=24,
    test=24,
    unknown=0.1,
    seed=0,
    findings=SPACE.findings[:3],
    boxes=False,
    images_per_study=1,
):
    """Write a dataset folder of random images with three planted findings and a normal label; returns the folder."""
    other = LabelSpace("other", (*findings, "None"), dict.fromkeys((*findings, "None"), "tail"), "name")
    space = SPACE if findings == SPACE.findings[:3] else other
    rng = np.random.default_rng(seed)
    rows = train + val + test
    labels = (rng.random((rows, 3)) < [0.5, 0.3, 0.2]).astype(np.int8)
    images = rng.integers(0, 90, (rows, SIDE, SIDE), dtype=np.uint8)
    for column in range(3):
        images[labels[:, column] == 1, 4 + 8 * column : 10 + 8 * column, 6:26] += 120
    labels = np.column_stack([labels, labels.sum(1) == 0])
    hidden = (rng.random(labels.shape) < unknown) & (labels == 0)
    manifest = pl.DataFrame(
        {
            "image_id": [f"{seed}-{row}.png" for row in range(rows)],
            "patient_id": [f"{seed}-{row // 2}" for row in range(rows)],
            "study_id": [str(row // images_per_study) for row in range(rows)],
            "view": ["frontal" if row % 3 else "lateral" for row in range(rows)],
            "split": ["train"] * train + ["val"] * val + ["test"] * test,
            "label_source": ["report"] * rows,
            "age": [50.0] * rows,
            "sex": ["F", "M"] * (rows // 2),
            "path": [f"{seed}-{row}.png" for row in range(rows)],
            "sha256": [f"{seed:032x}{row:032x}" for row in range(rows)],
            "row": list(range(rows)),
            "set_aside": [None] * rows,
            "weight": [1.0] * rows,
            **{
                finding: [None if hide else int(value) for value, hide in zip(column, hiding, strict=True)]
                for finding, column, hiding in zip(space.findings, labels.T, hidden.T, strict=True)
            },
        },
        schema={**SCHEMA, **{finding: pl.Int8() for finding in space.findings}},
    )
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    manifest.write_parquet(folder / "manifest.parquet")
    if boxes:
        planted = [
            {"image_id": f"{seed}-{row}.png", "finding": findings[column], **_edges(column)}
            for row, column in np.argwhere(labels[:, :3] == 1).tolist()
        ]
        pl.DataFrame(planted).write_parquet(folder / "boxes.parquet")
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": storage.sha256_file(folder / name)}
        for name in ("images.npy", "manifest.parquet", *(["boxes.parquet"] if boxes else []))
    }
    info = {
        "schema": "trcgl.dataset/1",
        "name": f"small-{seed}",
        "source": "table",
        "label_space": space.to_dict(),
        "image_size": SIDE,
        "fit": "letterbox",
        "pixel_rule": "8-bit",
        "cooccurrence": counts(manifest.filter(pl.col("split") == "train"), space).to_dict(),
        "files": files,
    }
    storage.write_json(folder / "dataset.json", info)
    return folder


def _edges(column):
    return {"x": 6 / SIDE, "y": (4 + 8 * column) / SIDE, "w": 20 / SIDE, "h": 6 / SIDE}


def small_recipe(**train):
    """Six batches an epoch on the default dataset; with dropout and drop path, which resuming has to repeat."""
    settings = {"epochs": 3, "batch_size": 8, "warmup_steps": 2, "ema": 0.99, "head_lr": 3e-3, "backbone_lr": 1e-3}
    return Recipe(
        name="small",
        model=ModelRecipe(
            backbone="test_convnext", image_size=SIDE, drop_path=0.1, dropout=0.1, learn_gates=True, label_embedding=16
        ),
        augment=AugmentRecipe(erasing=0.3),
        train=TrainRecipe(**{**settings, "devices": 1, "accelerator": "cpu", **train}),
    )
