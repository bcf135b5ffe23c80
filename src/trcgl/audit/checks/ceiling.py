"""What the autoencoder of a generator leaves of a finding: no latent model can draw what its decoder cannot.

Real held-out images go through encoder and decoder; the auditor judges them before and after. The same patients are
drawn for both in every replicate, so that the interval of the loss is paired.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from trcgl.audit.checks.label_fidelity import REAL_AUROC, REAL_POSITIVES, REPLICATES
from trcgl.core.progress import track
from trcgl.generate.pipeline import Generator
from trcgl.metrics.auroc import AUROC, auroc
from trcgl.metrics.bootstrap import patient_bootstrap
from trcgl.metrics.intervals import difference_interval, effective_patients, interval
from trcgl.metrics.summary import with_interval
from trcgl.model.tensors import at_size

LOSS = 0.10
"""A larger loss of AUROC, with an interval above 0, makes a finding not drawable."""


@dataclass(frozen=True)
class Ceiling:
    """The ceiling of one finding.

    Args:
        untouched: AUROC on the images as they are; value and interval, or why there is none.
        reconstructed: AUROC after encode and decode.
        loss: untouched less reconstructed, with a paired interval.
        drawable: whether a generator with this autoencoder can draw the finding; None where it cannot be told.
        why: the reason, with the numbers.
    """

    untouched: dict[str, Any]
    reconstructed: dict[str, Any]
    loss: dict[str, Any]
    drawable: bool | None
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class PixelError:
    """What the round trip changes, in gray levels.

    Args:
        images: that went through it.
        largest: difference of any pixel.
        mean: absolute difference.
    """

    images: int
    largest: int
    mean: float

    def with_more(self, other: "PixelError") -> "PixelError":
        """Of both sets of images together, all of one size."""
        images = self.images + other.images
        mean = (self.mean * self.images + other.mean * other.images) / max(1, images)
        return PixelError(images, max(self.largest, other.largest), mean)

    @property
    def lossless(self) -> bool:
        """No pixel of any image came back otherwise."""
        return self.largest == 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value."""
        return {**dataclasses.asdict(self), "lossless": self.lossless}


@torch.inference_mode()
def round_trip(
    generator: Generator,
    images: UInt8[np.ndarray, "store height width"],
    rows: Int[np.ndarray, " rows"],
    batch_size: int = 64,
) -> UInt8[np.ndarray, "rows height width"]:
    """Images after encode and decode, made gray and rounded as drawn ones are.

    They are brought to the generator's size and back where it draws at another size: that too limits what it can draw.

    Args:
        generator: on the device to compute on.
        images: a store, possibly memory-mapped.
        rows: which of its images.
        batch_size: images at once.
    """
    side, device = images.shape[1], generator.unet.device
    back = np.empty((len(rows), *images.shape[1:]), np.uint8)
    for start in track(range(0, len(rows), batch_size), what="encode and decode"):
        part = slice(start, start + batch_size)
        batch = at_size(torch.from_numpy(images[rows[part]]), generator.image_size).to(device)
        seen = (batch[:, None].float() / 127.5 - 1).expand(-1, generator.vae.config["in_channels"], -1, -1)
        given = generator.vae.decode(generator.vae.encode(seen).latent_dist.mode()).sample
        gray = ((given.float().mean(1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        back[part] = at_size(gray.cpu(), side).numpy()
    return back


def pixel_error(
    images: UInt8[np.ndarray, "store height width"],
    rows: Int[np.ndarray, " rows"],
    back: UInt8[np.ndarray, "rows height width"],
    batch_size: int = 256,
) -> PixelError:
    """Compare images with what came back."""
    largest, total = 0, 0.0
    for start in range(0, len(rows), batch_size):
        part = slice(start, start + batch_size)
        difference = np.abs(images[rows[part]].astype(np.int16) - back[part])
        largest, total = max(largest, int(difference.max())), total + float(difference.sum())
    return PixelError(len(rows), largest, total / back.size if back.size else 0.0)


def ceilings(
    truth: Float[np.ndarray, "rows findings"],
    untouched: Float[np.ndarray, "rows findings"],
    reconstructed: Float[np.ndarray, "rows findings"],
    patients: Sequence[str],
    weight: Float[np.ndarray, " rows"] | None = None,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> list[Ceiling]:
    """The ceiling of every finding.

    A finding is not drawable where the upper end of the reconstructed AUROC's interval is below .70, or where the loss
    is more than .10 and its interval above 0. It cannot be told for a finding that the auditor does not know on
    untouched images (AUROC below .70, or fewer than 20 positives).

    Args:
        truth: 1 present, 0 absent, NaN unknown.
        untouched: the auditor's scores of the images as they are.
        reconstructed: of the same images after encode and decode.
        patients: whose image each row is.
        weight: how much an image counts.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """
    owner = np.unique(np.asarray(patients), return_inverse=True)[1]
    truth = np.asarray(truth, np.float64)
    scores = [np.asarray(one, np.float64) for one in (untouched, reconstructed)]
    samples = [
        patient_bootstrap(truth, score, owner, weight, metrics=(AUROC,), replicates=replicates, seed=seed)["AUC"]
        for score in scores
    ]
    found = []
    for column, known in enumerate(truth.T):
        freedom = effective_patients(known, owner, weight) - 1
        values = [auroc(known, score[:, column], weight) for score in scores]
        before, after = (one.value for one in values)
        if before is None or after is None:
            none = {"value": None, "ci": None, "why": values[0].why}
            found.append(Ceiling(none, none, none, None, f"no AUROC: {values[0].why}"))
            continue
        areas = [
            with_interval(value, interval(value, one[:, column], freedom))
            for value, one in zip((before, after), samples, strict=True)
        ]
        paired = samples[0][:, column] - samples[1][:, column]
        loss = with_interval(before - after, difference_interval(before - after, paired, freedom))
        drawable, why = _drawable(areas[0], areas[1], loss, int((known == 1).sum()))
        found.append(Ceiling(areas[0], areas[1], loss, drawable, why))
    return found


def _drawable(
    before: dict[str, Any], after: dict[str, Any], loss: dict[str, Any], positives: int
) -> tuple[bool | None, str]:
    if positives < REAL_POSITIVES:
        return None, f"{positives} real images with it; {REAL_POSITIVES} are needed"
    if before["value"] < REAL_AUROC:
        return None, f"the auditor's AUROC on untouched images is {before['value']:.3f}, below {REAL_AUROC:.2f}"
    if after["ci"] is None or loss["ci"] is None:
        return None, f"no interval: {after.get('why') or loss.get('why')}"
    if after["ci"][1] < REAL_AUROC:
        return False, (
            f"after encode and decode the AUROC is {after['value']:.3f} and its interval ends at {after['ci'][1]:.3f}, "
            f"below {REAL_AUROC:.2f}"
        )
    if loss["value"] > LOSS and loss["ci"][0] > 0:
        low, high = loss["ci"]
        return (
            False,
            f"encode and decode cost {loss['value']:.3f} of AUROC [{low:.3f}, {high:.3f}], more than {LOSS:.2f}",
        )
    return True, f"AUROC {before['value']:.3f} untouched, {after['value']:.3f} after encode and decode"
