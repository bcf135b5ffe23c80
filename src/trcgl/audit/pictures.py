"""The images that an audit shows: real beside drawn, with beside without, rejects, nearest training images."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int, UInt8
from PIL import Image

from trcgl.audit.sample_plan import WITH, WITHOUT
from trcgl.audit.scored_images import Material, Real
from trcgl.core import html
from trcgl.core.randomness import generator as randomness
from trcgl.dataset.synthetic_rows import KEPT
from trcgl.generate.plan import label_set
from trcgl.generate.prompts import prompt

SHOWN = 10
"""Images that are shown beside real ones; half as many of the other kinds."""
_WIDE, _LARGEST = 192, 256  # on the page, in pixels: small images are enlarged to about the first, large ones reduced
_EXACT = 128  # up to this side images are PNG files, larger ones JPEG


def pictures(material: Material, finding: str, memorized: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Everything that the page shows of one finding.

    Args:
        material: of the audit.
        finding: audited.
        memorized: what the memorization check found; its pairs are shown.
        seed: of what is shown.
    """
    rows = material.drawn(finding)
    images, plan = material.images[WITH], material.sheets[WITH].rows
    shown = _spread(rows, SHOWN, seed)
    few = shown[: SHOWN // 2]
    copies = {one["drawn"] for one in memorized["copies"]}
    column = material.space.index(finding)

    def drawn(row: int, sheet: str = WITH) -> dict[str, Any]:
        words = material.sheets[sheet].rows["prompt"][row]
        return {
            **picture(material.images[sheet][row], f"Drawn: {words}"),
            "prompt": words,
            "score": float(material.scores[sheet][row, column]),
        }

    rejected = [row for row in rows.tolist() if material.verdict[row] not in (None, KEPT)]
    return {
        "side_by_side": [
            {"real": one, "drawn": drawn(row)}
            for row, one in zip(shown.tolist(), _alike(material, finding, plan[shown.tolist()], seed), strict=True)
        ],
        "with_and_without": [
            {"with": drawn(row), "without": drawn(other, WITHOUT)}
            for row, other in zip(
                few.tolist(), material.drawn(finding, WITHOUT)[np.searchsorted(rows, few)].tolist(), strict=True
            )
        ],
        "rejected": [
            {**drawn(row), "why": str(material.verdict[row]).removeprefix("rejected: ")}
            for row in rejected[: SHOWN // 2]
        ],
        "rejects": len(rejected),
        "neighbors": [
            {
                "drawn": picture(images[rows[one["drawn"]]], "Drawn", small=True),
                "train": picture(
                    material.store[material.train.store[one["train"]]], "Nearest training image", small=True
                ),
                "similarity": one["similarity"],
                "change": one["change"],
                "copy": one["drawn"] in copies,
            }
            for one in memorized["pairs"]
        ],
    }


def picture(image: UInt8[np.ndarray, "side side"], words: str, small: bool = False) -> dict[str, Any]:
    """An image as a data URI, how wide it is shown, and what is read aloud instead."""
    side = len(image)
    wide = _WIDE // 2 if small else _WIDE
    width = side * max(1, round(wide / side)) if side <= wide else min(side, _LARGEST // 2 if small else _LARGEST)
    shown = Image.fromarray(np.ascontiguousarray(image))
    if side > width:
        shown = shown.resize((width, width), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    if shown.width <= _EXACT:
        shown.save(stream, format="PNG", optimize=True)
        uri = html.png_uri(stream.getvalue())
    else:
        shown.save(stream, format="JPEG", quality=90)
        uri = html.png_uri(stream.getvalue()).replace("image/png", "image/jpeg", 1)
    return {"src": uri, "width": width, "alt": words}


def _alike(material: Material, finding: str, plan: pl.DataFrame, seed: int) -> list[dict[str, Any] | None]:
    """For each drawn image a real held-out one of the same label set, or another with the finding; each once."""
    real: Real = material.held_out
    there = randomness(seed, "shown", finding).permutation(material.positives(real, finding)).tolist()
    sets = {row: label_set(real.rows.row(row, named=True), material.space) for row in there}
    found: list[dict[str, Any] | None] = []
    for asked in plan["findings"].to_list():
        row = next((one for one in there if set(sets[one]) == set(asked)), None)
        row = row if row is not None else next(iter(there), None)
        if row is None:
            found.append(None)
            continue
        there.remove(row)
        words, same = prompt(sets[row], material.space.normal).text, set(sets[row]) == set(asked)
        found.append({**picture(material.store[real.store[row]], f"Real: {words}"), "prompt": words, "same": same})
    return found


def _spread(rows: Int[np.ndarray, " rows"], count: int, seed: int) -> Int[np.ndarray, " chosen"]:
    """Some rows, in their order, chosen by the seed and not by how they look."""
    return np.sort(randomness(seed, "shown").permutation(rows)[:count])
