"""ChestMNIST: one npz file with images and labels of three splits, most rows without any finding."""

from pathlib import Path

import numpy as np

from tests.dataset.source_fixtures import Case
from trcgl.dataset.sources.chestmnist import FINDINGS

IMAGES = {"train": 20, "val": 6, "test": 8}


def build(folder: Path) -> Case:
    """34 images of 28 px; a quarter of the rows has findings."""
    rng = np.random.default_rng(0)
    arrays, present, official = {}, {}, {}
    for split, number in IMAGES.items():
        labels = (rng.random((number, 14)) < 0.1).astype(np.uint8)
        arrays[f"{split}_images"] = rng.integers(0, 255, (number, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = labels
        for row in range(number):
            image = f"{split}_{row:06d}"
            present[image] = {finding for finding, cell in zip(FINDINGS, labels[row], strict=True) if cell}
            official[image] = split
    np.savez_compressed(folder / "chestmnist.npz", **arrays)
    return Case(root=folder, present=present, official=official)
