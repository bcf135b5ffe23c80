"""VinDr-CXR: 15,000 radiographs that radiologists read."""

from dataclasses import replace

from trcgl.core.recipe import AugmentRecipe, Recipe
from trcgl.recipes.trcgl import trcgl


def vindr() -> Recipe:
    """TRCGL-Net over ConvNeXtV2-Tiny at 512 px, for VinDr-CXR (VinBigData).

    Data: 15,000 radiographs (`trcgl prepare vindr --root VINDR --out vindr --size 512`, 4 GB). Hardware: one GPU with
    40 GB. Hours and numbers: not measured here.

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train vindr --recipe vindr --out vindr-run
    """
    base = trcgl()
    return replace(
        base,
        name="vindr",
        model=replace(
            base.model,
            image_size=512,
            drop_path=0.2,
            dropout=0.2,
        ),
        augment=AugmentRecipe(erasing=0.2),
        train=replace(
            base.train,
            epochs=30,
            batch_size=32,
            backbone_lr=1e-4,
            head_lr=1e-3,
            warmup_steps=300,
            ema=0.999,
            patience=6,
        ),
    )
