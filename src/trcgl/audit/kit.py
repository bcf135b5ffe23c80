"""The reader kit of an audit: which images go into it."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from trcgl.audit.reader_kit import NONE, read_ratings, write_kit
from trcgl.audit.sample_plan import NORMALS, WITH
from trcgl.audit.scored_images import Material
from trcgl.core.randomness import generator as randomness

KIT, KEY = "reader_kit", "reader_key"
Origin = Literal["real", "drawn"]
ORIGINS: tuple[Origin, Origin] = ("real", "drawn")
EACH = 8
"""Real and drawn images of each finding, and normal ones."""


def write_reader_kit(out: Path, material: Material, seed: int) -> dict[str, Any]:
    """Real held-out and drawn images of every audited finding, as many of each, and normal ones.

    Args:
        out: the audit folder; the key lies beside the kit, not in it.
        material: of the audit.
        seed: of the choice and the order.

    Returns:
        Number and folders of the kit.
    """
    images: list[np.ndarray] = []
    kinds: list[Origin] = []
    shown: list[str | None] = []
    rows = [(one, material.positives(material.held_out, one), WITH, material.drawn(one)) for one in material.findings]
    if NORMALS in material.sheets:
        drawn = np.arange(material.sheets[NORMALS].rows.height)
        rows.append((NONE, material.normals(material.held_out), NORMALS, drawn))
    taken = np.empty(0, np.int64)
    for finding, real, sheet, drawn in rows:
        real = np.setdiff1d(real, taken)  # an image of two findings seen twice is known to be real
        count = min(EACH, len(real), len(drawn))
        choose = randomness(seed, "reader kit", finding)
        chosen = np.sort(choose.permutation(real)[:count])
        taken = np.concatenate([taken, chosen])
        images += list(material.store[material.held_out.store[chosen]])
        images += list(material.images[sheet][np.sort(choose.permutation(drawn)[:count])])
        for origin in ORIGINS:
            kinds += [origin for _ in range(count)]
        shown += [finding] * 2 * count
    if not images:
        return {"kit": None, "why": "no held-out image has an audited finding"}
    number = write_kit(
        out / KIT,
        out / KEY,
        np.stack(images),
        kinds,
        shown,
        material.findings,
        seed=seed,
        phantom=material.inputs.dataset.info["source"] == "phantom",
    )
    return {"kit": number, "images": len(images), "folder": KIT, "key": KEY}


def ratings_of(out: Path, ratings: Path) -> dict[str, Any]:
    """What a reader's ratings of the audit's kit say.

    Raises:
        DataError: they are of another kit, or not complete.
    """
    return read_ratings(out / KIT, out / KEY, ratings)
