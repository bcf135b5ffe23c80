"""Whether the training patients of a base are disjoint from val and test, as far as they are known."""

from pathlib import Path
from typing import Any

import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.dataset.patient_halves import half_of
from trcgl.dataset.patient_hashes import FILE, patient_group, patient_groups, same_archive, seen_patients
from trcgl.dataset.store import Dataset

_SCHEMA = "trcgl.training-patients/1"
_ADVICE = "Give a generator of other patients or of this dataset, or train one."


def describe_base(recipe: GeneratorRecipe, dataset: Dataset) -> dict[str, Any]:
    """The entry `base` of `generator.json`.

    Its `kind` is `none` (from scratch), `pipeline` (of unknown patients), `own` (a generator that was trained on the
    train patients of this dataset) or `external` (a generator of other patients, none of whom is in val or test).
    Hashed patients are compared where both datasets come from one source; elsewhere patients are other persons.

    Raises:
        DataError: a generator was trained on patients of val or test, or its patients are not recorded.
    """
    if recipe.base is None:
        return {"kind": "none"}
    where = Path(recipe.base)
    if not (where / "generator.json").exists():
        return {"kind": "pipeline", "name": recipe.base, "revision": recipe.revision}
    info = storage.read_json(where / "generator.json")
    about = {"name": where.name, "digest": info["digest"], "license": info.get("license"), "base": info.get("base")}
    groups = patient_groups(where)
    if half_of(dataset, info["training_patient_digest"]) == "none":
        groups = [group for group in groups if group["digest"] != info["training_patient_digest"]]
        _check(where, groups, dataset)
        return {"kind": "own", **about}
    if not groups:
        raise DataError(
            f"{where} was not trained on the train patients of {dataset.folder}, and has no {FILE}, as generators of "
            f"trcgl 0.2 and earlier: whether it has seen patients of val or test cannot be checked. {_ADVICE}"
        )
    _check(where, groups, dataset)
    trained = {"sources": [group["source"] for group in groups], "patients": len(groups[0]["patients"])}
    return {"kind": "external", **about, **trained}


def write_patients(out: Path, dataset: Dataset, digest: str, recipe: GeneratorRecipe) -> None:
    """Write the hashed training patients of a generator and of its base, for generators that start from it.

    The hashes are salted with the digest of the dataset, but whoever has the file can test whether a known patient
    identifier is among them.
    """
    patients = dataset.split("train")["patient_id"].unique()
    earlier = patient_groups(Path(recipe.base)) if recipe.base else []
    groups = [patient_group(dataset, patients, digest), *(group for group in earlier if group["digest"] != digest)]
    storage.write_json(out / FILE, {"schema": _SCHEMA, "groups": groups})


def _check(where: Path, groups: list[dict[str, Any]], dataset: Dataset) -> None:
    """Refuse hashed patients that are, or may be, in val or test."""
    evaluated = dataset.manifest.filter(pl.col("split").is_in(["val", "test"]))["patient_id"].unique().to_list()
    for group in groups:
        if group["source"] == dataset.info["source"]:
            if seen := seen_patients(group, evaluated):
                raise DataError(
                    f"{where} was trained on {len(seen)} of the {len(evaluated)} patients in val and test of "
                    f"{dataset.folder}: synthetic images would carry them into training. {_ADVICE}"
                )
        elif same_archive(group["source"], dataset):
            raise DataError(
                f"{where} was trained on {group['source']}, which shares its images with {dataset.info['source']}, and "
                f"one of them names no patients: whether it has seen val or test cannot be checked. {_ADVICE}"
            )
