"""The miniature study: phantoms of 32 pixels, one epoch of a few batches."""

import dataclasses

from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.sources.phantom import Options
from trcgl.recipes import RECIPES

ARMS = ("trcgl", "linear")
SEEDS = 2


def phantoms(folder, *, train_images=48, positives_per_finding=2):
    """A dataset folder with a few phantoms of every finding; returns the folder."""
    options = Options(train_images=train_images, positives_per_finding=positives_per_finding, size=32, boxes=False)
    prepare("phantom", None, folder, PrepareOptions(size=32), options)
    return folder


def recipe(**train):
    """The recipe of phantoms, made small."""
    base = RECIPES["phantom"]()
    settings = {"epochs": 1, "batch_size": 16, "warmup_steps": 2, "accelerator": "cpu", **train}
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, image_size=32, output_stride=8, label_embedding=16),
        train=dataclasses.replace(base.train, **settings),
        evaluate=dataclasses.replace(base.evaluate, replicates=200),
    )
