"""Where the maps of trained runs lie, finding by finding, beside the nulls: a table from what `trcgl evaluate` wrote.

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


def cell(told: list[dict[str, Any]], of: str = "") -> str:
    """A number for all runs, or that of a null beside it."""
    if of:
        return f"{np.mean([one['against'][of]['value'] for one in told]):.3f}"
    above = sum(is_above(one) for one in told)
    if len(told) > 1:
        return f"{np.mean([one['value'] for one in told]):.3f} ▲ {above}/{len(told)}"
    (one,) = told
    interval = " [{:.3f}, {:.3f}]".format(*one["ci"]) if one["ci"] else ""
    return f"{one['value']:.3f}{interval}{' ▲' if above else ''}"


def is_above(one: dict[str, Any]) -> bool:
    """Whether the interval of the difference from the Gaussian lies above 0."""
    interval = one["against"][NULL]["ci"]
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
    told = [json.loads(path.read_text(encoding="utf-8"))["localization"] for path in paths]
    kinds, metric = told[0]["kinds"], options.metric
    names = [name.replace("_", "-").replace("grad-cam", "Grad-CAM") for name in kinds]
    nulls = ["Gaussian", *(f"{name}, shuffled" for name in names)]
    rows = [["finding", "images", f"share in {told[0]['regions']}", *names, *nulls]]
    rows.append(["---"] * len(rows[0]))
    findings = {"mean over findings": [one["overall"] for one in told]}
    findings |= {name: [one["findings"][name] for one in told] for name in told[0]["findings"]}
    for name, each in findings.items():
        values = [[one[kind][metric] for one in each] for kind in kinds]
        first = each[0]
        where = [str(first["images"]), f"{100 * first['area']:.1f} %"] if "area" in first else ["", ""]
        shuffled = [cell(one, "random") for one in values]
        rows.append([name, *where, *map(cell, values), cell(values[0], NULL), *shuffled])
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))
    counts = []
    for one in told:
        small = [finding for finding in one["findings"].values() if finding["area"] < options.largest]
        counts.append(sum(is_above(finding["attention"][metric]) for finding in small if "attention" in finding))
    print(f"\nattention above the Gaussian in {metric}: {' and '.join(map(str, counts))} of {len(small)} findings that")
    print(f"cover less than {options.largest:.0%} of the image (at least {options.at_least})")
    return int(min(counts) < options.at_least)


if __name__ == "__main__":
    sys.exit(main())
