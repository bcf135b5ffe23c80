"""Images of patients, and copies of them to plant."""

from functools import lru_cache

import numpy as np
from PIL import Image

from trcgl.dataset.sources import nih, phantom
from trcgl.phantom.render import render


@lru_cache(maxsize=4)
def phantoms(count, size, seed=0):
    """Training images of the phantom benchmark, and their patients."""
    options = phantom.Options(train_images=count, size=size, seed=seed, boxes=False, positives_per_finding=1)
    rows = phantom.read(options=options).rows.filter(split="train")
    pixels = [render(phantom.specification(image_id, options)).pixels for image_id in rows["image_id"]]
    return np.stack(pixels), rows["patient_id"].to_numpy()


def radiographs(root, size, count):
    """The images of the first patients of an NIH folder, and their patients."""
    rows = nih.read(root).rows.sort("patient_id", maintain_order=True)[:count]
    pixels = []
    for path in rows["path"]:
        with Image.open(root / path) as image:
            pixels.append(np.asarray(image.convert("L").resize((size, size), Image.Resampling.BOX)))
    return np.stack(pixels), rows["patient_id"].to_numpy()


def exact(image, rng):
    return image


def mirrored(image, rng):
    return image[:, ::-1]


def cropped(image, rng):
    """Any window that is 1 to 5 % smaller, resized back."""
    side = len(image)
    left = side * (1 - rng.uniform(0.01, 0.05))
    x, y = rng.uniform(0, side - left, 2)
    return np.asarray(
        Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, (x, y, x + left, y + left))
    )


def brightened(image, rng):
    """3 to 10 % brighter or darker."""
    return (image * (1 + rng.choice([-1, 1]) * rng.uniform(0.03, 0.1))).clip(0, 255).astype(np.uint8)


def everything(image, rng):
    return brightened(cropped(mirrored(image, rng), rng), rng)


KINDS = {change.__name__: change for change in (exact, mirrored, cropped, brightened, everything)}


def deal(patients, shares, rng):
    """Rows of so many shares of the patients."""
    names = rng.permutation(np.unique(patients))
    ends = np.round(np.cumsum(shares) * len(names)).astype(int)
    return [np.flatnonzero(np.isin(patients, part)) for part in np.split(names, ends[:-1])]
