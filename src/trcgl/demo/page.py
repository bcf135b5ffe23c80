"""The page of the tour: did synthetic images help, the tail in numbers, real and synthetic images, the audit."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from trcgl.core import html, storage
from trcgl.dataset.labels import GROUPS
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.dataset.synthetic_rows import KEPT, read_provenance

SHOWN = 6
"""Pairs of images per tail finding."""
DETECTABLE = 2.8
"""A two-sided test at 5 % detects this many standard errors with 80 % power."""
SECTIONS = (
    ("answer", "Did it help?"),
    ("tail", "The tail"),
    ("images", "Real and synthetic images"),
    ("audit", "The audit"),
    ("more", "All pages"),
    ("again", "The commands"),
)
_NORMAL_95 = 1.96


def write_page(
    out: Path,
    result: dict[str, Any],
    described: dict[str, Any],
    synthesized: dict[str, Any],
    audited: dict[str, Any],
    compared: dict[str, Any],
) -> str:
    """Write `report.html` from the results of the tour and of its commands, and return the answer as text."""
    real, synthetic = open_dataset(out / "phantom"), open_dataset(out / "synthetic")
    tail = real.space.in_group("tail")
    by_target = {target["target"]: target for target in synthesized["targets"]}
    targets = [finding for finding in tail if finding in by_target]
    counts = result["synthetic"]
    comparison = compared["comparisons"][0]
    answer = answer_of(comparison["groups"]["tail"]["mAP"], compared["bootstrap"]["replicates"])
    templates = html.environment("trcgl.demo")
    body = templates.get_template("page.html.j2").render(
        compared=compared,
        means=[("all findings", "", comparison["overall"])]
        + [(group, group, comparison["groups"][group]) for group in GROUPS if real.space.in_group(group)],
        findings={finding: comparison["findings"][finding] for finding in tail},
        tail=[_counts(real, finding) | by_target[finding] for finding in targets],
        described=described,
        synthesized=synthesized,
        pictures=[_pairs(real, synthetic, finding) for finding in targets],
        audited=audited,
        commands=result["commands"],
    )
    page = html.page(
        "Do synthetic images of rare findings help?",
        body,
        lead=answer,
        subtitle=f"{result['images']:,} phantoms; screening kept {counts['kept']:,} of "
        f"{counts['generated']:,} synthetic images; evaluated on {compared['images']:,} test images of "
        f"{compared['patients']:,} patients.",
        phantom=True,
        sections=SECTIONS,
        style=templates.get_template("page.css.j2").render(),
    )
    storage.write_text(out / "report.html", page)
    return answer


def answer_of(difference: dict[str, Any], replicates: int) -> str:
    """Whether synthetic images changed tail mAP, by the interval of the difference that `trcgl compare` found."""
    value, ends = difference["value"], difference["ci"]
    if value is None or not ends:
        return f"This demo cannot say whether synthetic images helped: {difference['why']}."
    if (dropped := difference["dropped"]) > replicates / 2:
        why = f"{dropped:,} of {replicates:,} resamples of test patients have no positive of a tail finding"
        return f"This demo cannot say whether synthetic images helped: {why}."
    before, after = difference["reference"], difference["run"]
    found = f"from {before:.3f} to {after:.3f}, a difference of {value:+.3f} [{ends[0]:+.3f}, {ends[1]:+.3f}]"
    if ends[0] > 0:
        return f"With synthetic images, tail mAP rose {found}. Each kind was trained once; another seed may differ."
    if ends[1] < 0:
        return f"With synthetic images, tail mAP fell {found}. Each kind was trained once; another seed may differ."
    smallest = DETECTABLE * (ends[1] - ends[0]) / 2 / _NORMAL_95
    return (
        f"No difference shown: with synthetic images, tail mAP went {found}. A comparison of this size detects a "
        f"difference of about {smallest:.3f} with 80 % power."
    )


def _counts(real: Dataset, finding: str) -> dict[str, int]:
    positives = real.manifest.filter(pl.col(finding) == 1)
    return {split: positives.filter(pl.col("split") == split).height for split in ("train", "val", "test")}


def _pairs(real: Dataset, synthetic: Dataset, finding: str) -> dict[str, Any]:
    """Real images above, synthetic images of the same label sets below; the first images, not the best."""
    provenance = read_provenance(synthetic.folder).filter(pl.col("target") == finding)
    kept = provenance.filter(pl.col("verdict") == KEPT)
    chosen = (kept if kept.height else provenance).head(SHOWN)
    rows = {
        name: chosen.select(image_id=column)
        .join(data.manifest.select("image_id", "row"), on="image_id", how="left", maintain_order="left")["row"]
        .to_numpy()
        for name, data, column in (("real", real, "source_image_id"), ("synthetic", synthetic, "image_id"))
    }
    above, below = real.require_images()[rows["real"]], synthetic.require_images()[rows["synthetic"]]
    image, stream = np.concatenate([np.concatenate(images, axis=1) for images in (above, below)]), io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", optimize=True)
    return {
        "finding": finding,
        "src": html.png_uri(stream.getvalue()),
        "kept": kept.height,
        "generated": provenance.height,
        "shown": chosen.height,
        "width": f"{chosen.height / SHOWN:.1%}",
    }
