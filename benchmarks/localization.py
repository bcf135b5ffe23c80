"""Localization of the maps of trained runs and of the nulls, by finding: a table of the results of `trcgl evaluate`.

    python benchmarks/localization.py RUN [RUN ...] [--metric energy] [--largest 0.15] [--at-least 12]

One run: value and 95 % interval. Several runs of one recipe: means, and in how many runs ▲ holds. ▲: the interval of
the difference from the centered Gaussian lies above 0. Exits with 1 if in any run the attention maps have fewer than
`--at-least` ▲ among the findings whose regions cover less than `--largest` of the image.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

NULL = "centered_gaussian"


def cell(metrics: list[dict[str, Any]], null: str = "") -> str:
    """The mean of a metric over runs, or that of a null."""
    if null:
        return f"{np.mean([metric['against'][null]['value'] for metric in metrics]):.3f}"
    above = sum(is_above(metric) for metric in metrics)
    if len(metrics) > 1:
        return f"{np.mean([metric['value'] for metric in metrics]):.3f} ▲ {above}/{len(metrics)}"
    (metric,) = metrics
    interval = " [{:.3f}, {:.3f}]".format(*metric["ci"]) if metric["ci"] else ""
    return f"{metric['value']:.3f}{interval}{' ▲' if above else ''}"


def is_above(metric: dict[str, Any]) -> bool:
    """Whether the interval of the difference from the Gaussian lies above 0."""
    interval = metric["against"][NULL]["ci"]
    return interval is not None and interval[0] > 0


def main() -> int:
    """Print the table, and check the claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--split", default="test", choices=("test", "val"))
    parser.add_argument("--metric", default="energy", choices=("pointing", "energy", "IoU@0.25", "IoU@0.5", "IoU@0.75"))
    parser.add_argument("--largest", type=float, default=0.15, help="share of the image")
    parser.add_argument("--at-least", type=int, default=0)
    options = parser.parse_args()
    paths = [run / "evaluation" / f"{options.split}.json" for run in options.runs]
    runs = [json.loads(path.read_text(encoding="utf-8"))["localization"] for path in paths]
    kinds, metric = runs[0]["kinds"], options.metric
    names = [name.replace("_", "-").replace("grad-cam", "Grad-CAM") for name in kinds]
    nulls = ["Gaussian", *(f"{name}, shuffled" for name in names)]
    rows = [["finding", "images", f"share in {runs[0]['regions']}", *names, *nulls]]
    rows.append(["---"] * len(rows[0]))
    findings = {"mean over findings": [run["overall"] for run in runs]}
    findings |= {name: [run["findings"][name] for run in runs] for name in runs[0]["findings"]}
    for name, each in findings.items():
        values = [[run[kind][metric] for run in each] for kind in kinds]
        first = each[0]
        where = [str(first["images"]), f"{100 * first['area']:.1f} %"] if "area" in first else ["", ""]
        shuffled = [cell(of_kind, "random") for of_kind in values]
        rows.append([name, *where, *map(cell, values), cell(values[0], NULL), *shuffled])
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))
    counts = []
    for run in runs:
        small = [finding for finding in run["findings"].values() if finding["area"] < options.largest]
        counts.append(sum(is_above(finding["attention"][metric]) for finding in small if "attention" in finding))
    print(f"\nattention above the Gaussian in {metric}: {' and '.join(map(str, counts))} of {len(small)} findings that")
    print(f"cover less than {options.largest:.0%} of the image (at least {options.at_least})")
    return int(min(counts) < options.at_least)


if __name__ == "__main__":
    sys.exit(main())
