"""Whether the initial weights of a run have seen patients of val or test."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.overlap import MADE_OF
from trcgl.dataset.patient_halves import half_of
from trcgl.dataset.store import Dataset
from trcgl.model.starts import Loaded

FILE = "training_patients.json"
SCHEMA = "trcgl.training-patients/1"
_DIGITS = 16  # of a hash: 64 bits, so that two of a million patients hardly ever agree
_ADVICE = "Start from a model that was trained on the train split of this dataset, or on other patients."


def check_start(loaded: Loaded, dataset: Dataset) -> str:
    """What is known about the patients of a start.

    The hashed patients of a run (`training_patients.json`) are compared with the patients of val and test. An exported
    model has only a digest of all its patients, which tells whether they are the train patients of this dataset.
    Patients are compared where both datasets have the same source; elsewhere the same identifier is another person.

    Returns:
        A sentence for the user, which the model card repeats.

    Raises:
        DataError: the start has seen patients of val or test, or was trained on the same archive and its patients
            cannot be compared.
    """
    start = loaded.start
    if start.kind != "run":
        return (
            f"It is not known on which images {start.name} was trained. If they include radiographs of patients in val "
            "or test, the results are too good."
        )
    evaluated = dataset.manifest.filter(pl.col("split").is_in(["val", "test"]))["patient_id"].unique().to_list()
    groups = {group["digest"]: group for group in patient_groups(start.path.parent.parent)}
    unknown: list[str] = []
    described: Mapping[str, Any] | None = start.info
    while described:
        digest, source = str(described.get("training_patient_digest")), described.get("source")
        if half_of(dataset, digest) is None and same_archive(source, dataset):
            _compare(start.path, groups.get(digest), source, evaluated, dataset, unknown)
        elif half_of(dataset, digest) is None and not source:
            unknown.append("an unnamed source")
        described = described.get("start")
        if described and described.get("kind") != "run":
            unknown.append(f"the initial weights {described.get('name')}")
            break
    if unknown:
        return (
            f"Whether the patients of {', '.join(unknown)}, on which {start.name} was trained, are in val or test "
            "could not be checked."
        )
    return f"No patient of val or test was used to train {start.name}."


def write_patients(folder: Path, dataset: Dataset, train: list[str], digest: str, loaded: Loaded | None) -> None:
    """Write the hashed patients of a run and of its starts, so that a later run that starts from it can compare them.

    The hashes are salted with the digest of the dataset. Whoever has the file can still test whether a known identifier
    is among them, so that `export` leaves it out.

    Args:
        folder: the run folder.
        dataset: the training dataset.
        train: its training patients.
        digest: digest of the training patients, as in `model.json`.
        loaded: the initial weights; None without any.
    """
    selected = dataset.manifest.filter(pl.col("split") == "val")["patient_id"]
    own = patient_group(dataset, {*train, *selected.unique()}, digest)
    earlier = patient_groups(loaded.start.path.parent.parent) if loaded and loaded.start.kind == "run" else []
    storage.write_json(folder / FILE, {"schema": SCHEMA, "groups": [own, *earlier]})


def _compare(
    path: Path,
    group: Mapping[str, Any] | None,
    source: Any,
    evaluated: list[str],
    dataset: Dataset,
    unknown: list[str],
) -> None:
    if group is None:
        if source == "table":  # tables of two hospitals have the same source
            unknown.append("another table")
            return
        raise DataError(
            f"{path} was trained on patients of {source}, and not on the train patients of {dataset.folder}: whether "
            f"it has seen patients of val or test cannot be checked. Give the run folder, which has {FILE}. {_ADVICE}"
        )
    seen = seen_patients(group, evaluated)
    if seen:
        raise DataError(
            f"{path} was trained or selected on {len(seen)} of the {len(evaluated)} patients in val and test of "
            f"{dataset.folder}: results on them would be too good. {_ADVICE}"
        )


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
