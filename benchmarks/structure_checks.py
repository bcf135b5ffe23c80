"""Accuracy of the structure checks on rendered phantoms, phantoms without the finding, and fakes of it.

    OMP_NUM_THREADS=1 python benchmarks/structure_checks.py

The label sets are those of the phantom benchmark's test split, so that other findings are there too. Thresholds were
set on phantoms of seed 11; this renders phantoms of seed 12. For each finding: the share of images on which its check
holds, with a 95 % interval (Wilson), for `--each` images with the finding, as many without it, with speckle of the same
mean contrast in its place, and with the lesion blurred by 2 pixels. A check meets its aims at a size if it holds on at
least 80 % of true images, at most 5 % of images without the finding and at most 15 % of speckle. `--figure` plots
examples and verdicts. Takes a quarter of an hour on one core.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.stats import binomtest

from trcgl.audit.checks.structure import STRUCTURES, structure_checks
from trcgl.core.randomness import generator
from trcgl.dataset.sources.phantom import Options, read, specification
from trcgl.phantom.render import PhantomSpec, render

KINDS = ("true", "without", "speckle", "blurred")
LEAST_TRUE, MOST_WITHOUT, MOST_SPECKLE = 0.80, 0.05, 0.15


Gray = UInt8[np.ndarray, "size size"]

_AROUND = 0.03
"""Margin of speckle around the mask of the finding, as a share of the image side."""
_FINE = 0.6
"""Smoothing of every second speckle: standard deviation in pixels."""
_BLUR = 2.0
"""Blur of a blurred lesion: standard deviation in pixels."""


@dataclass(frozen=True)
class Fakes:
    """A phantom and two fakes of its finding.

    Args:
        true: the phantom with the finding as the program renders it.
        speckle: the phantom without the finding, with noise of its mean contrast in its place.
        blurred: the phantom with the change of the finding blurred by two pixels.
    """

    true: Gray
    speckle: Gray
    blurred: Gray


def fakes(spec: PhantomSpec, finding: str) -> Fakes:
    """The phantom of a specification with the finding, and its two fakes."""
    there = render(spec)
    without = render(replace(spec, findings=tuple(name for name in spec.findings if name != finding))).pixels
    added = there.pixels.astype(np.float32) - without
    rng = generator(spec.seed, "structure fakes", spec.image, finding)
    # Exponential, as the intensity of speckle is.
    grain = rng.exponential(1, without.shape)
    if rng.random() < 0.5:
        smooth = gaussian_filter(grain, _FINE)
        grain = np.maximum(1 + (smooth - 1) / smooth.std(), 0)
    mask = there.masks[finding]
    region = binary_dilation(mask, iterations=max(1, round(_AROUND * spec.size)))
    speckle = without + region * float(added[mask].mean()) * grain
    return Fakes(there.pixels, _gray(speckle), _gray(without + gaussian_filter(added, _BLUR)))


def _gray(values: Float[np.ndarray, "size size"]) -> Gray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def specifications(seed: int, size: int, each: int) -> list[PhantomSpec]:
    """The test split of a phantom benchmark with `each` positives per finding."""
    options = Options(seed=seed, size=size, positives_per_finding=each, boxes=False)
    rows = read(options=options).rows
    return [specification(name, options) for name in rows.filter(rows["split"] == "test")["image_id"]]


def verdicts(image: np.ndarray, findings: list[str]) -> dict[str, tuple[bool, str | None]]:
    """Whether the checks of some findings hold on one image; its thorax is estimated once."""
    found = {finding: structure_checks(image[None], finding) for finding in findings}
    return {finding: (bool(result.holds[0]), result.why[0]) for finding, result in found.items()}


def row(finding: str, reasons: dict[str, list[str | None]]) -> str:
    """A line of the table."""
    share, cells = {}, []
    for kind, why in reasons.items():
        held, n = sum(reason is None for reason in why), len(why)
        ci = binomtest(held, n).proportion_ci(method="wilson")
        share[kind] = held / n
        cells.append(f"{held / n:.3f} [{ci.low:.3f}, {ci.high:.3f}]")
    fair = share["true"] >= LEAST_TRUE and share["without"] <= MOST_WITHOUT and share["speckle"] <= MOST_SPECKLE
    numbers = "/".join(str(len(why)) for why in reasons.values())
    return f"| {finding} | {numbers} | " + " | ".join(cells) + f" | {'yes' if fair else 'no'} |"


def measure(seed: int, size: int, each: int) -> dict[str, dict[str, list[str | None]]]:
    """The reasons why checks fail, None where one holds, per finding and kind of image."""
    reasons: dict[str, dict[str, list[str | None]]] = {name: {kind: [] for kind in KINDS} for name in STRUCTURES}
    phantoms = specifications(seed, size, each)
    for spec in phantoms:
        short = [name for name in STRUCTURES if name not in spec.findings and len(reasons[name]["without"]) < each]
        if not short:
            break
        for finding, (_, why) in verdicts(render(spec).pixels, short).items():
            reasons[finding]["without"].append(why)
    for finding in STRUCTURES:
        for spec in [spec for spec in phantoms if finding in spec.findings][:each]:
            made = fakes(spec, finding)
            for kind in ("true", "speckle", "blurred"):
                reasons[finding][kind].append(verdicts(getattr(made, kind), [finding])[finding][1])
        print(row(finding, reasons[finding]), flush=True)
    return reasons


def figure(path: Path, seed: int, size: int, columns: int = 2) -> None:
    """Examples of each finding, with its fakes and the verdicts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    phantoms = specifications(seed, size, 20)
    across = 3 * columns
    shape, axes = plt.subplots(len(STRUCTURES), across, figsize=(1.5 * across, 1.85 * len(STRUCTURES)))
    for line, finding in zip(axes, STRUCTURES, strict=True):
        examples: list[Fakes] = [fakes(spec, finding) for spec in phantoms if finding in spec.findings][:columns]
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
    """Render, check and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96])
    parser.add_argument("--out", type=Path, help="JSON file for the verdicts")
    parser.add_argument("--figure", type=Path, help="only plot examples into this file")
    asked = parser.parse_args()
    if asked.figure:
        figure(asked.figure, asked.seed, asked.sizes[0])
        return
    found = {}
    for size in asked.sizes:
        print(
            f"\n{size} px, seed {asked.seed}\n| finding | n | true | without | speckle | blurred | well |", flush=True
        )
        found[size] = measure(asked.seed, size, asked.each)
        if asked.out:
            asked.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
