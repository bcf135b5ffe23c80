"""`trcgl compare`: is one run better than another on the same images? Paired patient-bootstrap differences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.markdown import table
from trcgl.dataset.labels import GROUPS, LabelSpace
from trcgl.evaluate.predictions import Predictions, read_predictions
from trcgl.metrics.intervals import FEW, LEVEL, difference_interval
from trcgl.metrics.registry import RANKING
from trcgl.metrics.summary import Measured, mean_over_findings, measure, with_interval

SCHEMA = "trcgl.comparison/1"


def compare(runs: Sequence[Path], split: str = "test", *, replicates: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Differences between every further run and the first, overall, per group and per finding.

    Only metrics that depend on nothing but the ranking of the scores are compared. Every replicate resamples the same
    patients for all runs, so that images that are hard for all runs cancel out.

    Args:
        runs: run folders that `trcgl evaluate` has scored; the first is the reference.
        split: split whose predictions are compared.
        replicates: number of patient-bootstrap replicates.
        seed: random seed of the bootstrap.

    Returns:
        The document of schema `trcgl.comparison/1`; a difference is run minus reference, with its 95 % interval.

    Raises:
        DataError: there are fewer than two runs, a run has no predictions, or the runs were evaluated on different
            findings, images or labels.
    """
    if len(runs) < 2:
        raise DataError("compare needs two runs or more: trcgl compare RUN RUN ...")
    folders = [Path(run) for run in runs]
    first, *others = (read_predictions(run / "predictions" / f"{split}.parquet", _label_space(run)) for run in folders)
    aligned = [_aligned(first, other, folders[0], run) for other, run in zip(others, folders[1:], strict=True)]
    reference, *measured = (
        measure(*predictions.arrays, metrics=RANKING, replicates=replicates, seed=seed)
        for predictions in (first, *aligned)
    )
    names = [run.resolve().name for run in folders]
    names = names if len(set(names)) == len(names) else [str(run) for run in runs]
    return {
        "schema": SCHEMA,
        "split": split,
        "images": len(first),
        "patients": first.patient_id.n_unique(),
        "reference": names[0],
        "comparisons": [
            {"run": name, **_differences(first.space, reference, other)}
            for name, other in zip(names[1:], measured, strict=True)
        ],
        "bootstrap": {"unit": "patient", "replicates": replicates, "seed": seed, "level": LEVEL, "paired": True},
    }


def _label_space(run: Path) -> LabelSpace:
    return LabelSpace.from_dict(storage.read_json(run / "model" / "model.json")["label_space"])


def markdown(comparison: dict[str, Any]) -> str:
    """The comparison as Markdown tables, aligned so that they read well in a terminal, too.

    Metrics that an earlier version did not compare are left out.
    """
    parts = []
    for other in comparison["comparisons"]:
        metrics = [metric.name for metric in RANKING if f"m{metric.name}" in other["overall"]]
        means = [f"m{name}" for name in metrics]
        rows = [("", "findings", *(f"{name} {what}" for name in means for what in ("", "difference [95 %]")))]
        for title, group in (("overall", other["overall"]), *other["groups"].items()):
            if any(group[name]["value"] is not None for name in means):
                rows.append((title, str(group["mAP"]["findings"]), *_cells(group, means)))
        for name, finding in other["findings"].items():
            n = f"n = {finding['positive_patients']}" + (" (few)" if finding["few"] else "")
            rows.append((name, n, *_cells(finding, metrics)))
        parts.append(
            f"**{other['run']}** against **{comparison['reference']}**, {comparison['split']}: "
            f"{comparison['images']:,} images of {comparison['patients']:,} patients; "
            f"* the interval does not contain 0\n\n" + table(rows)
        )
    return "\n\n".join(parts) + "\n"


def _cells(compared: dict[str, Any], names: Sequence[str]) -> list[str]:
    cells = []
    for name in names:
        difference = compared[name]
        if difference["value"] is None:
            cells += ["–", difference["why"]]
            continue
        ends = difference["ci"]
        mark = " *" if ends and not ends[0] <= 0 <= ends[1] else ""
        interval = f"[{ends[0]:+.4f}, {ends[1]:+.4f}]" if ends else f"({difference['why']})"
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
