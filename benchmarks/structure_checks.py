"""How often are structure checks right? True phantoms, phantoms without the finding, and fakes of it.

    OMP_NUM_THREADS=1 python benchmarks/structure_checks.py

The label sets are those of the phantom benchmark's test split, so that other findings are there too. Thresholds were
set on phantoms of seed 11; this draws those of seed 12. For each finding: the share of images on which its check holds,
with a 95 % interval (Wilson), for `--each` images with the finding, as many without it, with speckle of the same mean
contrast in its place, and with the true lesion blurred by 2 pixels. A finding is checked well at a size if the check
holds on at least 80 % of true ones, at most 5 % of those without and at most 15 % of speckle. With `--figure`, examples
and verdicts. Takes a quarter of an hour on one core.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from trcgl.audit.checks.structure import STRUCTURES, structure_checks
from trcgl.audit.structure_fakes import Fakes, fakes
from trcgl.dataset.sources.phantom import Options, read, specification
from trcgl.phantom.render import PhantomSpec, render

KINDS = ("true", "without", "speckle", "blurred")
LEAST_TRUE, MOST_WITHOUT, MOST_SPECKLE = 0.80, 0.05, 0.15


def specifications(seed: int, size: int, each: int) -> list[PhantomSpec]:
    """The test split of a benchmark with so many positives of each finding."""
    options = Options(seed=seed, size=size, positives_per_finding=each, boxes=False)
    rows = read(options=options).rows
    return [specification(one, options) for one in rows.filter(rows["split"] == "test")["image_id"]]


def verdicts(image: np.ndarray, findings: list[str]) -> dict[str, tuple[bool, str | None]]:
    """Whether the checks of some findings hold on one image; its thorax is estimated once."""
    found = {one: structure_checks(image[None], one) for one in findings}
    return {one: (bool(it.holds[0]), it.why[0]) for one, it in found.items()}


def row(finding: str, told: dict[str, list[str | None]]) -> str:
    """The line of the report."""
    share, cells = {}, []
    for kind, why in told.items():
        held, n = sum(one is None for one in why), len(why)
        ci = binomtest(held, n).proportion_ci(method="wilson")
        share[kind] = held / n
        cells.append(f"{held / n:.3f} [{ci.low:.3f}, {ci.high:.3f}]")
    fair = share["true"] >= LEAST_TRUE and share["without"] <= MOST_WITHOUT and share["speckle"] <= MOST_SPECKLE
    n = "/".join(str(len(why)) for why in told.values())
    return f"| {finding} | {n} | " + " | ".join(cells) + f" | {'yes' if fair else 'no'} |"


def judge(seed: int, size: int, each: int) -> dict[str, dict[str, list[str | None]]]:
    """The reasons why checks fail, None where one holds, per finding and kind of image."""
    told: dict[str, dict[str, list[str | None]]] = {one: {kind: [] for kind in KINDS} for one in STRUCTURES}
    drawn = specifications(seed, size, each)
    for spec in drawn:
        short = [one for one in STRUCTURES if one not in spec.findings and len(told[one]["without"]) < each]
        if not short:
            break
        for finding, (_, why) in verdicts(render(spec).pixels, short).items():
            told[finding]["without"].append(why)
    for finding in STRUCTURES:
        for spec in [one for one in drawn if finding in one.findings][:each]:
            made = fakes(spec, finding)
            for kind in ("true", "speckle", "blurred"):
                told[finding][kind].append(verdicts(getattr(made, kind), [finding])[finding][1])
        print(row(finding, told[finding]), flush=True)
    return told


def figure(path: Path, seed: int, size: int, columns: int = 2) -> None:
    """Examples of each finding, with its fakes and the verdicts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    drawn = specifications(seed, size, 20)
    across = 3 * columns
    shape, axes = plt.subplots(len(STRUCTURES), across, figsize=(1.5 * across, 1.85 * len(STRUCTURES)))
    for line, finding in zip(axes, STRUCTURES, strict=True):
        examples: list[Fakes] = [fakes(one, finding) for one in drawn if finding in one.findings][:columns]
        for place, made in enumerate(examples):
            for offset, kind in enumerate(("true", "speckle", "blurred")):
                image = getattr(made, kind)
                holds, why = verdicts(image, [finding])[finding]
                axis = line[3 * place + offset]
                axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                axis.set_title(f"{kind}: {'holds' if holds else 'fails'}", fontsize=6, color="C2" if holds else "C3")
                axis.set_xlabel("" if why is None else "\n".join(_broken(why)), fontsize=4.5)
                axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(finding, fontsize=6)
    shape.tight_layout(pad=0.3, h_pad=0.8)
    shape.savefig(path, dpi=110)


def _broken(text: str, width: int = 30) -> list[str]:
    words, lines = text.split(), [""]
    for word in words:
        lines[-1:] = [f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < width else [lines[-1], word]
    return lines


def main() -> None:
    """Draw, check and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96])
    parser.add_argument("--out", type=Path, help="JSON file for the verdicts")
    parser.add_argument("--figure", type=Path, help="draw examples into this file, and nothing else")
    asked = parser.parse_args()
    if asked.figure:
        figure(asked.figure, asked.seed, asked.sizes[0])
        return
    found = {}
    for size in asked.sizes:
        print(
            f"\n{size} px, seed {asked.seed}\n| finding | n | true | without | speckle | blurred | well |", flush=True
        )
        found[size] = judge(asked.seed, size, asked.each)
        if asked.out:
            asked.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
