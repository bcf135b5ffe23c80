"""`trcgl compare`: is one run better than another on the same images? Paired patient-bootstrap differences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.folder_kind import ENSEMBLE, kind_of
from trcgl.core.markdown import table
from trcgl.dataset.labels import GROUPS, LabelSpace
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.dataset.target import reduced_space, shared_space
from trcgl.evaluate.evaluation import subset_rows
from trcgl.evaluate.predictions import Predictions, read_predictions
from trcgl.metrics.intervals import FEW, LEVEL, difference_interval
from trcgl.metrics.registry import RANKING
from trcgl.metrics.summary import Measured, mean_over_findings, measure, with_interval

SCHEMA = "trcgl.comparison/1"


def compare(
    runs: Sequence[Path],
    split: str = "test",
    *,
    dataset: Path | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Differences between every further run and the first: overall, per group, per finding and per subset.

    Only metrics that depend on nothing but the ranking of the scores are compared. Every replicate resamples the same
    patients for all runs, so that images that are hard for all runs cancel out.

    Args:
        runs: run folders or ensemble folders that `trcgl evaluate` has scored; the first is the reference.
        split: split whose predictions are compared.
        dataset: folder of another dataset on which `trcgl evaluate --dataset` has scored them, after its check that no
            image and no patient was used in training; they are compared on the findings that all of them have. None
            compares on their own dataset.
        replicates: number of patient-bootstrap replicates.
        seed: random seed of the bootstrap.

    Returns:
        The document of schema `trcgl.comparison/1`; a difference is run minus reference, with its 95 % interval.

    Raises:
        DataError: there are fewer than two runs, a run has no predictions of the dataset as it is now, or the runs were
            evaluated on different findings, images or labels, or one by study and another by image.
    """
    if len(runs) < 2:
        raise DataError("compare needs two runs or more: trcgl compare RUN RUN ...")
    folders = [Path(run) for run in runs]
    if dataset is None:
        read = [read_predictions(run / "predictions" / f"{split}.parquet", _label_space(run)) for run in folders]
    else:
        read = _of_dataset(folders, split, open_dataset(dataset))
    first, *others = read
    aligned = [_aligned(first, other, folders[0], run) for other, run in zip(others, folders[1:], strict=True)]
    reference, *measured = (
        measure(*predictions.arrays, metrics=RANKING, replicates=replicates, seed=seed)
        for predictions in (first, *aligned)
    )
    counted = {"images": len(first)}
    if first.images is not None:
        counted = {"images": int(first.images.sum()), "studies": len(first)}
    names = [run.resolve().name for run in folders]
    names = names if len(set(names)) == len(names) else [str(run) for run in runs]
    return {
        "schema": SCHEMA,
        "split": split,
        **({} if dataset is None else {"dataset": open_dataset(dataset).name}),
        **counted,
        "patients": first.patient_id.n_unique(),
        "reference": names[0],
        "comparisons": [
            {
                "run": name,
                **_differences(first.space, reference, other),
                "subsets": _subsets(first, predictions, replicates, seed),
            }
            for name, other, predictions in zip(names[1:], measured, aligned, strict=True)
        ],
        "bootstrap": {"unit": "patient", "replicates": replicates, "seed": seed, "level": LEVEL, "paired": True},
    }


def _label_space(run: Path) -> LabelSpace:
    path = run / ENSEMBLE.marker if kind_of(run) is ENSEMBLE else run / "model" / "model.json"
    return LabelSpace.from_dict(storage.read_json(path)["label_space"])


def _of_dataset(folders: Sequence[Path], split: str, dataset: Dataset) -> list[Predictions]:
    """The predictions of a dataset that is not the runs' own, on the findings that all runs share with it."""
    name, digest = f"{dataset.name}-{split}", storage.sha256_file(dataset.folder / "dataset.json")
    spaces = [shared_space(_label_space(run), dataset) for run in folders]
    findings = tuple(finding for finding in spaces[0].findings if all(finding in space.findings for space in spaces))
    if not findings:
        raise DataError(f"the runs share no finding of {dataset.folder}. Compare runs of overlapping label spaces.")
    for run in folders:
        path = run / "evaluation" / f"{name}.json"
        if not path.is_file() or storage.read_json(path).get("dataset_digest") != digest:
            options = "" if split == "test" else f" --split {split}"
            raise DataError(
                f"{run} was not evaluated on {split} of {dataset.folder} as it is now. "
                f"Run: trcgl evaluate {run} --dataset {dataset.folder}{options}"
            )
    space = reduced_space(spaces[0], findings)
    return [read_predictions(run / "predictions" / f"{name}.parquet", space) for run in folders]


def markdown(comparison: dict[str, Any]) -> str:
    """The comparison as Markdown tables, aligned so that they read well in a terminal, too.

    Metrics that an earlier version did not compare are left out.
    """
    where = " ".join([*([comparison["dataset"]] if "dataset" in comparison else []), comparison["split"]])
    counted = f"{comparison['images']:,} images"
    if "studies" in comparison:
        counted = f"{comparison['studies']:,} studies with {counted}"
    parts = []
    for other in comparison["comparisons"]:
        subsets = other.get("subsets", {})  # comparisons of 0.2.0 have none
        metrics = [metric.name for metric in RANKING if f"m{metric.name}" in other["overall"]]
        means = [f"m{name}" for name in metrics]
        rows = [("", "findings", *(f"{name} {what}" for name in means for what in ("", "difference [95 %]")))]
        for title, group in (("overall", other["overall"]), *other["groups"].items()):
            if any(group[name]["value"] is not None for name in means):
                rows.append((title, str(group["mAP"]["findings"]), *_cells(group, means)))
        for name, finding in other["findings"].items():
            n = f"n = {finding['positive_patients']}" + (" (few)" if finding["few"] else "")
            rows.append((name, n, *_cells(finding, metrics)))
        for name, subset in subsets.items():
            units = "studies" if "studies" in subset else "images"
            n = f"{subset['mAP']['findings']}; {subset[units]:,} {units}"
            rows.append((name.replace("_", " ").replace("=", ": "), n, *_cells(subset, means)))
        parts.append(
            f"**{other['run']}** against **{comparison['reference']}**, {where}: "
            f"{counted} of {comparison['patients']:,} patients; "
            f"* the interval does not contain 0\n\n" + table(rows) + _without_interval(other)
        )
    return "\n\n".join(parts) + "\n"


def _without_interval(other: dict[str, Any]) -> str:
    """Why differences in the table have no interval; empty where all have one."""
    compared = [other["overall"]]
    for part in ("groups", "findings", "subsets"):
        compared += other.get(part, {}).values()
    values = [value for row in compared for value in row.values() if isinstance(value, dict)]
    bare = [value for value in values if value.get("value") is not None and not value["ci"]]
    reasons = {value["why"].removesuffix(": no interval") for value in bare}
    return f"\n\nNo interval: {'; '.join(sorted(reasons))}." if reasons else ""


def _cells(compared: dict[str, Any], names: Sequence[str]) -> list[str]:
    cells = []
    for name in names:
        difference = compared[name]
        if difference["value"] is None:
            cells += ["–", difference["why"]]
            continue
        ends = difference["ci"]
        mark = " *" if ends and not ends[0] <= 0 <= ends[1] else ""
        interval = f"[{ends[0]:+.4f}, {ends[1]:+.4f}]" if ends else "(no interval)"
        cells += [
            f"{difference['reference']:.4f} → {difference['run']:.4f}",
            f"{difference['value']:+.4f} {interval}{mark}",
        ]
    return cells


def _aligned(first: Predictions, other: Predictions, reference: Path, run: Path) -> Predictions:
    """The predictions of another run in the order of the images of the reference."""
    if other.space.findings != first.space.findings:
        different = sorted(set(other.space.findings) ^ set(first.space.findings)) or ["their order"]
        raise DataError(f"{run} and {reference} differ in findings: {different[0]}. Compare runs of one label space.")
    if (first.images is None) != (other.images is None):
        by_study, by_image = (run, reference) if first.images is None else (reference, run)
        raise DataError(
            f"{by_study} was evaluated by study and {by_image} by image. Evaluate {by_image} with --fusion mean and "
            "--out, and compare that folder."
        )
    here, there = first.image_id.to_list(), {image: row for row, image in enumerate(other.image_id)}
    missing = [image for image in here if image not in there]
    if missing or len(there) != len(here):
        image, has, lacks = (missing[0], reference, run) if missing else (min(set(there) - set(here)), run, reference)
        raise DataError(
            f"image {image!r} was evaluated in {has} but not in {lacks}: a paired difference needs the same images. "
            "Evaluate both runs on the same dataset and split."
        )
    rows = np.array([there[image] for image in here], np.int64)
    same = (other.truth[rows] == first.truth) | (np.isnan(other.truth[rows]) & np.isnan(first.truth))
    if not same.all():
        row, column = np.argwhere(~same)[0]
        raise DataError(
            f"image {here[row]!r} has another label for {first.space.findings[column]} in {run} than in {reference}. "
            "Evaluate both runs on the same dataset."
        )
    return Predictions(**{**vars(first), "score": other.score[rows], "logit": other.logit[rows]})


def _subsets(first: Predictions, other: Predictions, replicates: int, seed: int) -> dict[str, Any]:
    """Mean differences within each view, label source, sex and age band that is a part of the images."""
    found = {}
    for name, rows in subset_rows(first):
        if rows.all():
            continue
        before, after = (
            measure(*run.select(rows).arrays, metrics=RANKING, replicates=replicates, seed=seed)
            for run in (first, other)
        )
        counted = {"images": int(rows.sum())}
        if first.images is not None:
            counted = {"images": int(first.images[rows].sum()), "studies": int(rows.sum())}
        patients = first.patient_id.filter(pl.Series(rows)).n_unique()
        found[name] = {**counted, "patients": patients, **_differences(first.space, before, after)["overall"]}
    return found


def _differences(space: LabelSpace, reference: Measured, other: Measured) -> dict[str, Any]:
    before, after = ({name: run.values(name) for name in run.metrics} for run in (reference, other))
    samples = {name: other.replicates[name] - reference.replicates[name] for name in other.metrics}

    def mean(name: str, columns: list[int]) -> dict[str, Any]:
        gains, freedom = (after[name] - before[name])[columns], reference.freedom[name][columns]
        difference = mean_over_findings(gains, samples[name][:, columns], freedom, difference_interval)
        if difference["value"] is not None:
            difference["reference"] = float(np.nanmean(before[name][columns]))
            difference["run"] = float(np.nanmean(after[name][columns]))
        return difference

    def finding(name: str, column: int) -> dict[str, Any]:
        value = float(after[name][column] - before[name][column])
        if np.isnan(value):
            return {"value": None, "ci": None, "why": "undefined: no positive or no negative in this split"}
        freedom = float(reference.freedom[name][column])
        difference = with_interval(value, difference_interval(value, samples[name][:, column], freedom))
        return difference | {"reference": float(before[name][column]), "run": float(after[name][column])}

    def group(findings: tuple[str, ...]) -> dict[str, Any]:
        columns = [space.index(name) for name in findings]
        return {f"m{name}": mean(name, columns) for name in other.metrics}

    return {
        "overall": group(space.scored),
        "groups": {name: group(space.in_group(name)) for name in GROUPS},
        "findings": {
            name: {
                "positive_patients": (patients := reference.positive_patients(column)),
                "few": patients < FEW,
                **{metric: finding(metric, column) for metric in other.metrics},
            }
            for column, name in enumerate(space.findings)
        },
    }
