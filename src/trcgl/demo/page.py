"""The page of the tour: the tail in numbers, drawn images beside real ones, the audit, and what they were good for."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trcgl.core import html, storage
from trcgl.dataset.labels import GROUPS
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.dataset.synthetic_rows import KEPT, read_provenance

SHOWN = 6
"""Pairs of images of each tail finding."""
DETECTABLE = 2.8
"""Standard errors that a two-sided test at 5 % finds with a power of 80 %."""
SECTIONS = (
    ("answer", "Did it help?"),
    ("tail", "The tail"),
    ("images", "Real beside drawn"),
    ("audit", "The audit"),
    ("more", "Everything else"),
    ("again", "The same by hand"),
)
_NORMAL_95 = 1.96
STYLE = """
.answer { font-size: 1.12rem; max-width: none; }
caption { text-align: left; color: var(--muted); padding: .2rem 0 .4rem; }
tbody th { font-weight: 500; white-space: nowrap; } .ci, .why { color: var(--muted); white-space: nowrap; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(26rem, 1fr)); gap: .9rem; }
.pairs figure { margin: 0; } .pairs img { image-rendering: pixelated; background: #000; }
.swatch { display: inline-block; width: .7rem; height: .7rem; border-radius: 3px; margin-right: .45rem; }
.swatch.head { background: var(--head); } .swatch.medium { background: var(--medium); }
.swatch.tail { background: var(--tail); }
@media (max-width: 40rem) { .pairs { grid-template-columns: 1fr; } }
"""


def write_page(
    out: Path,
    told: dict[str, Any],
    described: dict[str, Any],
    drawn: dict[str, Any],
    audited: dict[str, Any],
    compared: dict[str, Any],
) -> str:
    """Write `report.html`.

    Args:
        out: the folder of the tour.
        told: what the tour returns.
        described: what `trcgl describe` returned for the phantoms.
        drawn: what `trcgl synthesize` returned.
        audited: what `trcgl audit` returned.
        compared: what `trcgl compare` returned for the run without and the run with drawn images.

    Returns:
        The answer in a sentence.
    """
    real, synthetic = open_dataset(out / "phantom"), open_dataset(out / "drawn")
    tail = real.space.in_group("tail")
    by_target = {one["target"]: one for one in drawn["targets"]}
    counts = told["drawn"]
    comparison = compared["comparisons"][0]
    answer = answer_of(comparison["groups"]["tail"]["mAP"], compared["bootstrap"]["replicates"])
    body = (
        html.environment("trcgl.demo")
        .get_template("page.html.j2")
        .render(
            answer=answer,
            compared=compared,
            means=[("all findings", "", comparison["overall"])]
            + [(group, group, comparison["groups"][group]) for group in GROUPS if real.space.in_group(group)],
            findings={finding: comparison["findings"][finding] for finding in tail},
            tail=[{"finding": one, **_counts(real, one), **by_target[one]} for one in tail if one in by_target],
            described=described,
            drawn=drawn,
            pictures=[{"finding": one, **_pairs(real, synthetic, one)} for one in tail if one in by_target],
            audited=audited,
            commands=told["commands"],
            signed=lambda value: f"{value:+.3f}",
        )
    )
    page = html.page(
        "From a long tail to an answer",
        body,
        subtitle=f"{told['images']:,} phantoms; {counts['kept']:,} of {counts['generated']:,} synthetic images kept; "
        f"judged on {compared['images']:,} test images of {compared['patients']:,} patients.",
        phantom=True,
        sections=SECTIONS,
        style=STYLE,
    )
    storage.write_text(out / "report.html", page)
    return answer


def answer_of(difference: dict[str, Any], replicates: int) -> str:
    """Whether drawn images changed tail mAP, as far as the interval of the difference can tell.

    Args:
        difference: run with drawn images minus run without, as `trcgl compare` tells it.
        replicates: of the bootstrap.
    """
    value, ends = difference["value"], difference["ci"]
    if value is None or not ends:
        return f"Whether drawn images helped cannot be said: {difference['why']}."
    if (dropped := difference["dropped"]) > replicates / 2:
        why = f"{dropped:,} of {replicates:,} draws of test patients leave a tail finding without a positive"
        return f"Whether drawn images helped cannot be said: {why}."
    before, after = difference["reference"], difference["run"]
    found = f"tail mAP {before:.3f} → {after:.3f}, {value:+.3f} [{ends[0]:+.3f}, {ends[1]:+.3f}]"
    if ends[0] > 0:
        return f"With drawn images, tail mAP rose: {found}. One run of each kind: another seed may find otherwise."
    if ends[1] < 0:
        return f"With drawn images, tail mAP fell: {found}. One run of each kind: another seed may find otherwise."
    smallest = DETECTABLE * (ends[1] - ends[0]) / 2 / _NORMAL_95
    return (
        f"No difference could be shown: {found}. The smallest difference that {difference['findings']} findings on so "
        f"many patients would show is about {smallest:.3f}."
    )


def _counts(real: Dataset, finding: str) -> dict[str, int]:
    positives = real.manifest.filter(pl.col(finding) == 1)
    return {split: positives.filter(pl.col("split") == split).height for split in ("train", "val", "test")}


def _pairs(real: Dataset, synthetic: Dataset, finding: str) -> dict[str, Any]:
    """Above real images, below drawn ones of the same label sets: the first ones, not the best ones."""
    provenance = read_provenance(synthetic.folder).filter(pl.col("target") == finding)
    kept = provenance.filter(pl.col("verdict") == KEPT)
    chosen = (kept if kept.height else provenance).head(SHOWN)
    rows = {
        name: chosen.select(image_id=column)
        .join(data.manifest.select("image_id", "row"), on="image_id", how="left", maintain_order="left")["row"]
        .to_numpy()
        for name, data, column in (("real", real, "source_image_id"), ("drawn", synthetic, "image_id"))
    }
    above, below = real.require_images()[rows["real"]], synthetic.require_images()[rows["drawn"]]
    return {
        "src": html.png_uri(_png(np.concatenate([np.concatenate(list(above), 1), np.concatenate(list(below), 1)]))),
        "kept": kept.height,
        "drawn": provenance.height,
        "shown": chosen.height,
        "width": f"{chosen.height / SHOWN:.1%}",
    }


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", optimize=True)
    return stream.getvalue()
