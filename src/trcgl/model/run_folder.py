"""A finished run folder, opened once: what training recorded, the trained model and the dataset it was trained on."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.folder_kind import RUN, expect
from trcgl.core.recipe import Recipe, from_json
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.model.folder import LoadedModel, best_device, load_model


@dataclass(frozen=True)
class Run:
    """A finished run; `info` is the content of `run.json`."""

    folder: Path
    info: dict[str, Any]
    model: LoadedModel

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of the training, from `recipe.json`.

        Raises:
            DataError: the file is missing.
        """
        path = self.folder / "recipe.json"
        if not path.is_file():
            raise DataError(f"{path} is missing. Copy the run folder again, or train again.")
        return from_json(path.read_text(encoding="utf-8"))

    @property
    def dataset_folder(self) -> Path:
        """Where the training dataset was, as recorded relative to the run."""
        return Path(os.path.normpath(self.folder.resolve() / self.info["dataset"]))

    @cached_property
    def dataset(self) -> Dataset:
        """The training dataset.

        Raises:
            DataError: the dataset was moved or has changed.
        """
        folder = self.dataset_folder
        if not (folder / "dataset.json").is_file():
            raise DataError(
                f"{self.folder} was trained on {folder}, which is gone. Put the dataset back, or change `dataset` in "
                f"{self.folder}/run.json to its present location, relative to the run."
            )
        if storage.sha256_file(folder / "dataset.json") != self.info["dataset_digest"]:
            raise DataError(
                f"{folder} is no longer the dataset that {self.folder} was trained on. Train a new run on it."
            )
        return open_dataset(folder)


def open_run(folder: Path, *, device: str | torch.device | None = None) -> Run:
    """Open a finished run folder; without `device`, the model goes to the GPU where there is one.

    Raises:
        DataError: the folder has no `run.json`, or its training has not finished.
    """
    folder = Path(folder)
    expect(folder, RUN)
    info = storage.read_json(folder / "run.json")
    if "finished" not in info:
        raise DataError(f"{folder} is not finished. Run the same `trcgl train` command again; it resumes.")
    return Run(folder, info, load_model(folder / "model", device=device or best_device()))
