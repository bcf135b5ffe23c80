"""The images on the page: synthetic and real, with and without the finding, rejected, and nearest in training."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import UInt8
from PIL import Image

from trcgl.audit.sample_plan import WITH, WITHOUT
from trcgl.audit.scored_images import ScoredImages
from trcgl.core import html
from trcgl.core.randomness import generator as randomness
from trcgl.dataset.synthetic_rows import KEPT
from trcgl.generate.plan import label_set
from trcgl.generate.prompts import prompt

SHOWN = 10  # synthetic images shown beside real ones; half as many of the other kinds
_WIDE, _LARGEST = 192, 256  # width on the page in pixels: small images are enlarged to the first, large ones reduced
_EXACT = 128  # images up to this side are PNG files, larger ones JPEG


def pictures(images: ScoredImages, finding: str, memorized: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Everything that the page shows of one finding, with the pairs of the result of the memorization check."""
    sheet, counterparts = images.sheets[WITH], images.sheets[WITHOUT].rows_of(finding)
    rows, column = sheet.rows_of(finding), images.space.index(finding)
    shown = np.sort(randomness(seed, "shown").permutation(rows)[:SHOWN])
    few = shown[: SHOWN // 2]
    copies = {copy["synthetic"] for copy in memorized["copies"]}
    rejected = [row for row in rows.tolist() if images.screening[row] not in (None, KEPT)]

    def synthetic(row: int, name: str = WITH) -> dict[str, Any]:
        text = images.sheets[name].rows["prompt"][row]
        return {
            **picture(images.sheets[name].images[row], f"Synthetic: {text}"),
            "prompt": text,
            "score": float(images.sheets[name].scores[row, column]),
        }

    return {
        "side_by_side": [
            {"real": real, "synthetic": synthetic(row)}
            for row, real in zip(shown.tolist(), _alike(images, finding, sheet.rows[shown.tolist()], seed), strict=True)
        ],
        "with_and_without": [
            {"with": synthetic(row), "without": synthetic(other, WITHOUT)}
            for row, other in zip(few.tolist(), counterparts[np.searchsorted(rows, few)].tolist(), strict=True)
        ],
        "rejected": [
            {**synthetic(row), "why": str(images.screening[row]).removeprefix("rejected: ")}
            for row in rejected[: SHOWN // 2]
        ],
        "rejects": len(rejected),
        "neighbors": [
            {
                "synthetic": picture(sheet.images[rows[pair["synthetic"]]], "Synthetic", small=True),
                "train": picture(
                    images.pixels(images.train, np.array([pair["train"]]))[0], "Nearest training image", small=True
                ),
                "similarity": pair["similarity"],
                "change": pair["change"],
                "copy": pair["synthetic"] in copies,
            }
            for pair in memorized["pairs"]
        ],
    }


def picture(image: UInt8[np.ndarray, "side side"], description: str, small: bool = False) -> dict[str, Any]:
    """An image as a data URI, its width on the page, and its description for screen readers."""
    side = len(image)
    wide = _WIDE // 2 if small else _WIDE
    width = side * max(1, round(wide / side)) if side <= wide else min(side, _LARGEST // 2 if small else _LARGEST)
    shown = Image.fromarray(np.ascontiguousarray(image))
    if side > width:
        shown = shown.resize((width, width), Image.Resampling.LANCZOS)
    stream, exact = io.BytesIO(), shown.width <= _EXACT
    shown.save(stream, "PNG" if exact else "JPEG", optimize=exact, quality=90)  # each takes one of the two options
    uri = html.png_uri(stream.getvalue()).replace("image/png", "image/png" if exact else "image/jpeg", 1)
    return {"src": uri, "width": width, "alt": description}


def _alike(images: ScoredImages, finding: str, plan: pl.DataFrame, seed: int) -> list[dict[str, Any] | None]:
    """For each synthetic image a held-out image of the same label set, else with the finding; no image twice."""
    real, normal = images.held_out, images.space.normal
    left = randomness(seed, "shown", finding).permutation(images.positives(real, finding)).tolist()
    sets = {row: label_set(real.rows.row(row, named=True), images.space) for row in left}
    found: list[dict[str, Any] | None] = []
    for asked in plan["findings"].to_list():
        if not left:
            found.append(None)
            continue
        row = next((row for row in left if set(sets[row]) == set(asked)), left[0])
        left.remove(row)
        text, same = prompt(sets[row], normal).text, set(sets[row]) == set(asked)
        shown = picture(images.pixels(real, np.array([row]))[0], f"Real: {text}")
        found.append({**shown, "prompt": text, "same": same})
    return found
