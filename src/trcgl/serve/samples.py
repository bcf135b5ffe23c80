"""Rendered phantoms to try a model with; each states that it is a phantom."""

import io
from dataclasses import dataclass
from functools import cache
from typing import Literal

from PIL import Image
from PIL.PngImagePlugin import PngInfo

SIDE = 512


@dataclass(frozen=True)
class Sample:
    """One phantom with findings of PadChest-30."""

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
    """The PNG file of one of `SAMPLES`, with a text chunk that states that it is a phantom."""
    # The rendering program imports much of SciPy, and most servers never need a sample.
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
    text, stream = PngInfo(), io.BytesIO()
    text.add_text("Description", "Phantom rendered by trcgl; no patient.")
    Image.fromarray(render(spec).pixels).save(stream, format="PNG", pnginfo=text, optimize=True)
    return stream.getvalue()
