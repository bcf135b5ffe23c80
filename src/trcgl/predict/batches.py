"""Read and score files in batches of fixed composition, on this machine or on a Dask cluster, with equal bytes."""

import functools
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from trcgl.core.cluster import map_on
from trcgl.core.errors import CheckpointError, NotAccepted
from trcgl.core.prefetch import map_ahead
from trcgl.imaging.ahead_of_network import read_ahead
from trcgl.imaging.file_process import ReadFile
from trcgl.model.ensemble import Ensemble, load_ensemble
from trcgl.predict.journal import Batch

if TYPE_CHECKING:
    from distributed import Client

File = tuple[str, Path]  # image_id and absolute path
_TASK_BATCHES = 16  # batches of a task on a cluster: their decoding process starts once for all


@dataclass(frozen=True)
class Scoring:
    """How files become batches of scores."""

    batch_size: int
    tta: bool
    of_dicom: bool  # whether the study of each file is read from its header
    identifiers: bool  # whether the UIDs and the accession number are read from it
    seconds: float  # time limit per file
    accept: frozenset[str] = frozenset()  # reasons of `core.errors.REASONS` for which a file is not refused

    def here(self, models: Ensemble, files: Sequence[File], *, workers: int, lanes: int) -> Iterator[Batch]:
        """Yield every batch, in order.

        `workers`: number of decoding processes. `lanes`: number of batches scored at once. On CPUs each has a core of
        its own: cores that share the layers of a small network would wait.
        """
        reading = read_ahead(
            files,
            models.shapes,
            ahead=4 * self.batch_size,
            workers=workers,
            study=self.of_dicom,
            identifiers=self.identifiers,
            seconds=self.seconds,
            accept=self.accept,
        )
        threads = torch.get_num_threads()
        # The number of threads is a setting of the process, so it is restored for threads that start later.
        pool = ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(1,))
        with closing(reading) as read:
            parts = iter(lambda: list(islice(read, self.batch_size)), [])
            try:
                yield from map_ahead(pool, functools.partial(self._batch, models), parts, lanes - 1)
            finally:
                pool.shutdown(cancel_futures=True)
                torch.set_num_threads(threads)

    def on(self, client: "Client", models: Ensemble, folders: Sequence[Path], files: Sequence[File]) -> Iterator[Batch]:
        """Yield every batch, in order, scored on the CPUs of a cluster's workers.

        Raises:
            CheckpointError: a worker finds other models in the folders.
        """
        absolute = tuple(Path(folder).absolute() for folder in folders)
        identity = _identity(models)
        size = _TASK_BATCHES * self.batch_size
        tasks = (
            _Task(self, absolute, identity, tuple(files[start : start + size])) for start in range(0, len(files), size)
        )
        for batches in map_on(client, tasks):
            yield from batches

    def _batch(self, models: Ensemble, files: Iterable[tuple[str, ReadFile | NotAccepted | str]]) -> Batch:
        batch, readable, scores = Batch(), [], iter(())
        for name, read in files:
            if isinstance(read, str):
                batch.unreadable.append([name, read])
                continue
            if self.of_dicom and read.study is None:
                advice = "Leave it out" if models.fuses else "Leave --by-study out"
                why = f"names no study (StudyInstanceUID). {advice}."
                batch.unreadable.append([name, str(read) if isinstance(read, NotAccepted) else why])
                continue
            batch.image_ids.append(name)
            batch.studies.append(read.study)
            if self.identifiers:
                batch.identifiers.append(read.identifiers)
            if isinstance(read, NotAccepted):
                batch.refused[name] = str(read)
            else:
                readable.append(read)
        if readable:
            pictures = {
                shape: np.stack([read.pictures[place] for read in readable])
                for place, shape in enumerate(models.shapes)
            }
            scores = iter(models.score(pictures, tta=self.tta, batch_size=self.batch_size).tolist())
        batch.scores.extend(None if name in batch.refused else next(scores) for name in batch.image_ids)
        return batch


@dataclass(frozen=True)
class _Task:
    """Consecutive files for one worker."""

    scoring: Scoring
    folders: tuple[Path, ...]
    identity: str  # `_identity` of the models on the machine that writes the scores
    named: tuple[File, ...]

    @property
    def files(self) -> list[Path]:
        return [path for _, path in self.named]

    def __call__(self) -> list[Batch]:
        with _loading:  # else each thread of a worker would load models of its own
            models = _models(self.folders, self.identity)
        return list(self.scoring.here(models, self.named, workers=1, lanes=1))


_loading = threading.Lock()


@functools.lru_cache(maxsize=1)
def _models(folders: tuple[Path, ...], identity: str) -> Ensemble:
    models = load_ensemble(folders, device="cpu")
    here, expected = (json.loads(text) for text in (_identity(models), identity))
    if here["ensemble"] != expected["ensemble"] or len(here["models"]) != len(expected["models"]):
        raise CheckpointError(f"{folders[0]} holds another ensemble than on the machine of the command.")
    for place, (model, wanted) in enumerate(zip(here["models"], expected["models"], strict=True)):
        if model != wanted:
            folder = folders[min(place, len(folders) - 1)]
            changed = ", ".join(key for key in wanted if model.get(key) != wanted[key])
            raise CheckpointError(
                f"{folder} holds another model than on the machine of the command ({changed} differ)."
            )
    return models


def _identity(models: Ensemble) -> str:
    """What decides the scores of models, as JSON."""
    combination = None if models.combination is None else asdict(models.combination)
    return json.dumps({"models": models.identity, "ensemble": combination})
