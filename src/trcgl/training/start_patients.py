"""Whether the initial weights of a run have seen patients of val or test."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.patient_halves import half_of
from trcgl.dataset.patient_hashes import FILE, patient_group, patient_groups, same_archive, seen_patients
from trcgl.dataset.store import Dataset
from trcgl.model.starts import Loaded

SCHEMA = "trcgl.training-patients/1"
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
