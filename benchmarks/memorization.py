"""Does the memorization check find planted copies, and does it stay silent without them?

    OMP_NUM_THREADS=1 python benchmarks/memorization.py --size 64
    OMP_NUM_THREADS=1 python benchmarks/memorization.py --radiographs ../shared/data/nih-mini --size 96

Images of one pool are dealt anew in every repetition, by patient: train, held-out, and 200 that stand for drawn ones.
First these are independent of train; then a tenth of them are replaced by copies of training images, of one kind at a
time. Also prints the processor time of 1,000 drawn against 10,000 training phantoms.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from trcgl.audit.memorization import memorization
from trcgl.core.randomness import generator
from trcgl.data.phantom.draw import draw
from trcgl.data.sources import nih, phantom

DRAWN, PLANTED = 200, 20
SHARES = (0.5, 0.75)  # of the patients: train up to the first, held-out up to the second


def exact(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image itself."""
    return image


def mirrored(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Left and right exchanged."""
    return image[:, ::-1]


def cropped(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Any window that is 1 to 5 % smaller, resized back."""
    side = len(image)
    left = side * (1 - rng.uniform(0.01, 0.05))
    x, y = rng.uniform(0, side - left, 2)
    return np.asarray(
        Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, (x, y, x + left, y + left))
    )


def brightened(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """3 to 10 % brighter or darker."""
    return (image * (1 + rng.choice([-1, 1]) * rng.uniform(0.03, 0.1))).clip(0, 255).astype(np.uint8)


def everything(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrored, cropped and brightened."""
    return brightened(cropped(mirrored(image, rng), rng), rng)


KINDS = {one.__name__: one for one in (exact, mirrored, cropped, brightened, everything)}


def phantoms(count: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Training images of the phantom benchmark and their patients."""
    options = phantom.Options(train_images=count, size=size, seed=seed, boxes=False, positives_per_finding=1)
    rows = phantom.read(options=options).rows.filter(split="train")
    images = [draw(phantom.specification(one, options)).pixels for one in rows["image_id"]]
    return np.stack(images), rows["patient_id"].to_numpy()


def radiographs(root: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """All images of an NIH folder and their patients."""
    rows = nih.read(root).rows
    images = []
    for path in rows["path"]:
        with Image.open(root / path) as image:
            images.append(np.asarray(image.convert("L").resize((size, size), Image.Resampling.BOX)))
    return np.stack(images), rows["patient_id"].to_numpy()


def deal(patients: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of train, of held-out and of 200 images of other patients."""
    names = rng.permutation(np.unique(patients))
    first, second = (round(share * len(names)) for share in SHARES)
    train, held_out, rest = (
        np.flatnonzero(np.isin(patients, names[part]))
        for part in (slice(first), slice(first, second), slice(second, None))
    )
    return train, held_out, rng.choice(rest, DRAWN, replace=False)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--radiographs", type=Path, help="an NIH folder; phantoms where it is not given")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--pool", type=int, default=2000, help="phantoms")
    parser.add_argument("--repetitions", type=int, default=100, help="with independent images")
    parser.add_argument("--planted", type=int, default=10, help="repetitions with each kind of copy")
    parser.add_argument("--speed", action="store_true", help="measure 1,000 against 10,000 instead")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    if options.speed:
        images, patients = phantoms(13_000, options.size)
        start = time.process_time()
        memorization(
            images[12_000:], images[:10_000], images[10_000:12_000],
            train_patients=[f"t{one}" for one in patients[:10_000]],
            held_out_patients=[f"h{one}" for one in patients[10_000:12_000]],
        )  # fmt: skip
        print(
            f"1,000 drawn, 10,000 train, 2,000 held-out, {options.size} px: {time.process_time() - start:.0f} s of one core"
        )
        return

    source = (
        radiographs(options.radiographs, options.size) if options.radiographs else phantoms(options.pool, options.size)
    )
    images, patients = source

    def check(kind: str | None, repetition: int) -> tuple[bool, float, int, int]:
        rng = generator(options.seed, "deal", kind or "", repetition)
        train, held_out, rest = deal(patients, rng)
        drawn, planted = images[rest].copy(), np.empty(0, np.int64)
        originals = train
        if kind:
            planted = rng.choice(DRAWN, PLANTED, replace=False)
            originals = rng.choice(train, PLANTED, replace=False)
            drawn[planted] = [KINDS[kind](images[one], rng) for one in originals]
        told = memorization(
            drawn, images[train], images[held_out],
            train_patients=patients[train].tolist(), held_out_patients=patients[held_out].tolist(), seed=repetition,
        )  # fmt: skip
        right = dict(zip(planted.tolist(), originals.tolist(), strict=False))
        found = sum(train[one.train] == right.get(one.drawn) for one in told.copies)
        assert told.p is not None and told.flagged is not None
        return told.flagged, told.p, int(found), len([one for one in told.copies if one.drawn not in right])

    name = options.radiographs.name if options.radiographs else "phantoms"
    print(f"{name}, {options.size} px: {len(images):,} images of {len(np.unique(patients)):,} patients")
    for kind in (*KINDS, None):
        count = options.planted if kind else options.repetitions
        told = []
        for repetition in range(count):
            told.append(check(kind, repetition))
        flagged, p, found, wrong = (np.array(one) for one in zip(*told, strict=True))
        line = f"{kind or 'independent':12} flagged {flagged.sum()} of {count} (largest p {p.max():.1e}, median {np.median(p):.1e})"
        if kind:
            line += f"; copies found {found.sum()} of {count * PLANTED}"
        print(f"{line}; others listed {wrong.sum()} of {count * (DRAWN - PLANTED * bool(kind))}", flush=True)


if __name__ == "__main__":
    main()
