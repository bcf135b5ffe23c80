"""Hashed patients of a run or a generator, with which later runs and evaluations are compared."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trcgl.core import storage
from trcgl.dataset.overlap import MADE_OF
from trcgl.dataset.store import Dataset

FILE = "training_patients.json"
_DIGITS = 16  # of a hash: 64 bits, so that two of a million patients hardly ever agree


def patient_group(dataset: Dataset, patients: Iterable[str], digest: str) -> dict[str, Any]:
    """Hashed patients of a dataset; `digest` is that of the training patients."""
    salt = storage.sha256_file(dataset.folder / "dataset.json")
    return {"source": dataset.info["source"], "digest": digest, "salt": salt, "patients": _hashed(patients, salt)}


def seen_patients(group: Mapping[str, Any], patients: Iterable[str]) -> list[str]:
    """The patients that are in a group of hashed patients."""
    known = set(group["patients"])
    return [patient for patient in patients if _hash(patient, group["salt"]) in known]


def same_archive(source: Any, dataset: Dataset) -> bool:
    """Whether a source is that of a dataset, or one is made of the images of the other."""
    names = (source, dataset.info["source"])
    return len({MADE_OF.get(name, name) for name in names}) == 1


def patient_groups(folder: Path) -> list[dict[str, Any]]:
    """The groups of hashed patients in the folder of a run or a generator; none in that of an exported model."""
    path = folder / FILE
    return storage.read_json(path)["groups"] if path.is_file() else []


def _hashed(patients: Iterable[str], salt: str) -> list[str]:
    return sorted(_hash(patient, salt) for patient in patients)


def _hash(patient: str, salt: str) -> str:
    return hashlib.sha256(f"{salt}\n{patient}".encode()).hexdigest()[:_DIGITS]
