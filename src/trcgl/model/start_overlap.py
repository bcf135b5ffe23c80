"""Whether the initial weights of a run have seen the patients of another dataset."""

from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from trcgl.core.errors import DataError
from trcgl.dataset.overlap import NUMBERED, WITHOUT_PATIENTS
from trcgl.dataset.patient_halves import half_of
from trcgl.dataset.patient_hashes import patient_groups, same_archive, seen_patients
from trcgl.dataset.store import Dataset
from trcgl.model.run_folder import Run


def refuse_start_overlap(run: Run, other: Dataset, splits: Collection[str]) -> list[str]:
    """Refuse to evaluate a run on patients on which its initial weights were trained, as far as they are recorded.

    The hashed patients of every start of the run are compared with those of `other` where both come from one archive;
    elsewhere the same identifier is another person. Starts on the train patients of the run's dataset are those that
    `refuse_overlap` compares.

    Args:
        run: the run, with its dataset in place.
        other: the dataset of the evaluation.
        splits: its splits that are evaluated.

    Returns:
        A sentence on the starts whose patients could not be compared; none if all were.

    Raises:
        DataError: a start was trained or selected on a patient of these splits.
    """
    groups = patient_groups(run.folder)
    rows = other.manifest.filter(pl.col("split").is_in(list(splits)))
    patients = rows["patient_id"].unique().to_list()
    unknown: list[str] = []
    described: Mapping[str, Any] | None = run.model.info.get("start")
    while described:
        name, source = str(described.get("name")), described.get("source")
        digest = str(described.get("training_patient_digest"))
        if not source:  # not a model of this project
            unknown.append(name)
        elif same_archive(source, other):
            recorded = [group for group in groups if group["digest"] == digest]
            comparable = source == other.info["source"] or not {source, other.info["source"]} & set(WITHOUT_PATIENTS)
            if not (recorded and comparable) and half_of(run.dataset, digest) is None:
                unknown.append(name)
            elif comparable and (seen := {person for group in recorded for person in seen_patients(group, patients)}):
                raise DataError(
                    f"{run.folder} started from {name}, which was trained or selected on {len(seen)} of the "
                    f"{len(patients)} patients in {' and '.join(splits)} of {other.folder}, {min(seen)!r} among them. "
                    "Evaluate on patients that the initial weights have not seen."
                    + (NUMBERED if other.info["source"] == "table" else "")
                )
        described = described.get("start")
    if not unknown:
        return []
    return [
        f"It is not known whether patients of {other.name} were used to train {', '.join(unknown)}, from which "
        f"{run.folder.resolve().name} started. If they were, the results are too good."
    ]
