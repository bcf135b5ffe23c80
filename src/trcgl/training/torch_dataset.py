"""The rows of one split as a torch dataset, for your own training loop."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import data

from trcgl.dataset.manifest import label_array
from trcgl.dataset.store import Dataset
from trcgl.model.tensors import at_size, to_unit


class TorchDataset(data.Dataset[tuple[Tensor, Tensor]]):
    """Images and labels of one split.

        train = trcgl.TorchDataset(trcgl.open_dataset("nih"), "train", image_size=224)
        image, label = train[0]                                  # (1, 224, 224), (C,)
        loader = torch.utils.data.DataLoader(train, batch_size=32, shuffle=True, num_workers=2)

    Each item is an image (1, H, W), float32 in [0, 1], and a label (C,), float32: 1 present, 0 absent, NaN unknown.

    Args:
        dataset: from `open_dataset`.
        split: `train`, `val` or `test`.
        image_size: side of the images in pixels; None keeps the stored size.
        with_none: include images without a known label.

    Attributes:
        findings: names of the C findings, in the order of the labels.
        rows: manifest of the split, a polars table with one row per item.
        labels: (N, C) float32, the labels of all items.

    Raises:
        DataError: the dataset has no images, or the split is unknown or empty.
    """

    def __init__(self, dataset: Dataset, split: str, *, image_size: int | None = None, with_none: bool = False) -> None:
        self.image_size = image_size or dataset.require_images().shape[1]
        self.findings = dataset.space.findings
        self.rows = dataset.split(split, with_none=with_none)
        self.labels: Float[np.ndarray, "rows findings"] = label_array(self.rows, dataset.space)
        self._path = dataset.folder / "images.npy"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "1 height width"], Float[Tensor, " findings"]]:
        # A memory map that is sent to a worker process is copied whole, so each access opens the file itself.
        images = np.load(self._path, mmap_mode="r")
        image = torch.from_numpy(images[self.rows["row"][index]][None].copy())  # (1, H, W)
        return to_unit(at_size(image, self.image_size))[0], torch.from_numpy(self.labels[index])
