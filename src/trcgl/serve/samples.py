"""Drawn radiographs to try a model with. They are phantoms, and say so: no patient has what they show."""

import io
from dataclasses import dataclass
from functools import cache
from typing import Literal

from PIL import Image
from PIL.PngImagePlugin import PngInfo

SIDE = 512


@dataclass(frozen=True)
class Sample:
    """One phantom.

    Args:
        title: what it shows, in words.
        findings: names of PadChest-30.
        age: in years.
        sex: F or M.
    """

    title: str
    findings: tuple[str, ...]
    age: float
    sex: Literal["F", "M"]


SAMPLES: dict[str, Sample] = {
    "1": Sample("Phantom: nothing found", ("Normal",), 42.0, "F"),
    "2": Sample("Phantom: large heart and effusion", ("cardiomegaly", "pleural effusion"), 74.0, "F"),
    "3": Sample("Phantom: pneumothorax", ("Pneumothorax",), 31.0, "M"),
    "4": Sample("Phantom: mass", ("Mass",), 66.0, "M"),
    "5": Sample("Phantom: devices after heart surgery", ("sternotomy", "Support Devices"), 70.0, "M"),
    "6": Sample("Phantom: hyperinflated lungs", ("hyperinflated lung", "Emphysema"), 63.0, "M"),
}
"""Id to sample."""


@cache
def sample_png(number: str) -> bytes:
    """The PNG file of one of `SAMPLES`, with a text chunk that calls it a phantom."""
    # The drawing program brings half of SciPy with it, and most servers are never asked for a sample.
    from trcgl.phantom.render import PhantomSpec, render

    sample = SAMPLES[number]
    spec = PhantomSpec(
        seed=7,
        patient=number,
        image=number,
        findings=sample.findings,
        age=sample.age,
        sex=sample.sex,
        size=SIDE,
        difficulty=0.75,
    )
    told, stream = PngInfo(), io.BytesIO()
    told.add_text("Description", "Phantom drawn by trcgl; no patient.")
    Image.fromarray(render(spec).pixels).save(stream, format="PNG", pnginfo=told, optimize=True)
    return stream.getvalue()
