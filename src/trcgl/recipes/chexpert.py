"""CheXpert's fourteen findings, uncertain labels masked."""

from dataclasses import replace

from trcgl.core.recipe import Recipe
from trcgl.recipes.trcgl import trcgl


def chexpert() -> Recipe:
    """TRCGL-Net over ConvNeXtV2-Tiny at 320 px, for CheXpert.

    Data: 223,414 radiographs (`trcgl prepare chexpert --root CHEXPERT --out chexpert --size 320`, 23 GB); uncertain
    labels stay unknown and are masked. Hardware: one GPU with 24 GB. Hours and numbers: not measured here.

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train chexpert --recipe chexpert --out chexpert-run
    """
    base = trcgl()
    return replace(
        base,
        name="chexpert",
        model=replace(
            base.model,
            image_size=320,
        ),
        train=replace(
            base.train,
            epochs=8,
            batch_size=64,
            backbone_lr=1e-4,
            head_lr=1e-3,
            warmup_steps=1000,
            ema=0.9998,
            save_steps=500,
        ),
    )
