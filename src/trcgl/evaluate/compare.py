"""`trcgl compare`: is one run better than another on the same images? Paired patient-bootstrap differences.

trcgl compare runs/linear runs/trcgl
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.markdown import table
from trcgl.dataset.labels import GROUPS, LabelSpace
from trcgl.evaluate.evaluation import mean_over_findings, with_interval
from trcgl.evaluate.measured import RANKED, Measured, measure_findings
from trcgl.evaluate.predictions import Predictions, read_predictions
from trcgl.metrics.intervals import FEW, LEVEL, difference_interval

SCHEMA = "trcgl.comparison/1"


def compare(runs: Sequence[Path], split: str = "test", *, replicates: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Differences of every further run to the first, overall, per group and per finding.

    Every replicate draws the same patients for all runs, so that what is hard for both cancels out.

    Args:
        runs: run folders that `trcgl evaluate` has scored; the first is the reference.
        split: which predictions to compare.
        replicates: patient-bootstrap replicates.
        seed: of the bootstrap.

    Returns:
        The document of schema `trcgl.comparison/1`; a difference is run minus reference, with its 95 % interval.

    Raises:
        DataError: fewer than two runs, a run without predictions, or runs that were judged on different findings,
            images or labels.
    """
    if len(runs) < 2:
        raise DataError("compare needs two runs or more: trcgl compare RUN RUN ...")
    spaces = [label_space_of(one) for one in runs]
    scored = [
        read_predictions(Path(one) / "predictions" / f"{split}.parquet", space)
        for one, space in zip(runs, spaces, strict=True)
    ]
    first, *others = scored
    aligned = [
        first,
        *(_aligned(first, one, Path(runs[0]), Path(path)) for one, path in zip(others, runs[1:], strict=True)),
    ]
    measured = [measure_findings(one, replicates=replicates, seed=seed) for one in aligned]
    names = _names(runs)
    return {
        "schema": SCHEMA,
        "split": split,
        "images": len(first),
        "patients": first.patient_id.n_unique(),
        "reference": names[0],
        "comparisons": [
            {"run": name, **_differences(first, measured[0], one)}
            for name, one in zip(names[1:], measured[1:], strict=True)
        ],
        "bootstrap": {"unit": "patient", "replicates": replicates, "seed": seed, "level": LEVEL, "paired": True},
    }


def label_space_of(folder: Path) -> LabelSpace:
    """The label space of a run, from its `model/model.json`.

    Raises:
        DataError: the folder is no run whose training ended.
    """
    return LabelSpace.from_dict(storage.read_json(Path(folder) / "model" / "model.json")["label_space"])


def markdown(comparison: dict[str, Any]) -> str:
    """The comparison as Markdown tables, aligned so that they read well in a terminal, too."""
    parts = []
    for one in comparison["comparisons"]:
        rows = [("", "findings", *(f"{name} {what}" for name in ("mAP", "mAUC") for what in ("", "difference [95 %]")))]
        for title, told in (("overall", one["overall"]), *one["groups"].items()):
            if told["mAP"]["value"] is not None or told["mAUC"]["value"] is not None:
                rows.append((title, str(told["mAP"]["findings"]), *_cells(told, ("mAP", "mAUC"))))
        for finding, told in one["findings"].items():
            n = f"n = {told['positive_patients']}" + (" (few)" if told["few"] else "")
            rows.append((finding, n, *_cells(told, ("AP", "AUC"))))
        parts.append(
            f"**{one['run']}** against **{comparison['reference']}**, {comparison['split']}: "
            f"{comparison['images']:,} images of {comparison['patients']:,} patients; "
            f"an interval that leaves out 0 is marked *\n\n" + table(rows)
        )
    return "\n\n".join(parts) + "\n"


def _cells(told: dict[str, Any], names: tuple[str, str]) -> list[str]:
    cells = []
    for name in names:
        one = told[name]
        if one["value"] is None:
            cells += ["–", one["why"]]
            continue
        ends = one["ci"]
        sure = ends and not ends[0] <= 0 <= ends[1]
        text = f"{one['value']:+.4f}" + (f" [{ends[0]:+.4f}, {ends[1]:+.4f}]" if ends else f" ({one['why']})")
        cells += [f"{one['reference']:.4f} → {one['run']:.4f}", text + (" *" if sure else "")]
    return cells


def _aligned(first: Predictions, other: Predictions, reference: Path, path: Path) -> Predictions:
    if other.space.findings != first.space.findings:
        different = sorted(set(other.space.findings) ^ set(first.space.findings)) or ["their order"]
        raise DataError(f"{path} and {reference} differ in findings: {different[0]}. Compare runs of one label space.")
    here, there = first.image_id.to_list(), {one: row for row, one in enumerate(other.image_id)}
    missing = [one for one in here if one not in there]
    if missing or len(there) != len(here):
        image, has, lacks = (missing[0], reference, path) if missing else (min(set(there) - set(here)), path, reference)
        raise DataError(
            f"image {image!r} was judged in {has} but not in {lacks}: a paired difference needs the same images. "
            "Evaluate both runs on the same dataset and split."
        )
    rows = np.array([there[one] for one in here], np.int64)
    same = (other.truth[rows] == first.truth) | (np.isnan(other.truth[rows]) & np.isnan(first.truth))
    if not same.all():
        row, column = np.argwhere(~same)[0]
        raise DataError(
            f"image {here[row]!r} has another label for {first.space.findings[column]} in {path} than in {reference}. "
            "Evaluate both runs on the same dataset."
        )
    return Predictions(**{**vars(first), "score": other.score[rows], "logit": other.logit[rows]})


def _differences(first: Predictions, reference: Measured, other: Measured) -> dict[str, Any]:
    space, freedom = first.space, reference.freedom
    before, after = ({name: one.values(name) for name in RANKED} for one in (reference, other))
    gains = {name: after[name] - before[name] for name in RANKED}
    drawn = {name: other.replicates[name] - reference.replicates[name] for name in RANKED}

    def mean(name: str, of: tuple[str, ...]) -> dict[str, Any]:
        columns = [space.index(one) for one in of]
        told = mean_over_findings(gains[name][columns], drawn[name][:, columns], freedom[columns], difference_interval)
        if told["value"] is not None:
            told |= {
                which: float(np.nanmean(of[name][columns])) for which, of in (("reference", before), ("run", after))
            }
        return told

    def group(of: tuple[str, ...]) -> dict[str, Any]:
        return {f"m{name}": mean(name, of) for name in RANKED}

    findings = {}
    for column, finding in enumerate(space.findings):
        positive_patients = len(np.unique(reference.owner[first.truth[:, column] == 1]))
        told: dict[str, Any] = {"positive_patients": positive_patients, "few": positive_patients < FEW}
        for name in RANKED:
            value = float(gains[name][column])
            if np.isnan(value):
                told[name] = {"value": None, "ci": None, "why": "undefined: no positive or no negative in this split"}
                continue
            told[name] = with_interval(
                value, difference_interval(value, drawn[name][:, column], float(freedom[column]))
            )
            told[name] |= {"reference": float(before[name][column]), "run": float(after[name][column])}
        findings[finding] = told
    return {
        "overall": group(space.scored),
        "groups": {one: group(space.in_group(one)) for one in GROUPS},
        "findings": findings,
    }


def _names(runs: Sequence[Path]) -> list[str]:
    names = [Path(one).resolve().name for one in runs]
    return names if len(set(names)) == len(names) else [str(one) for one in runs]
