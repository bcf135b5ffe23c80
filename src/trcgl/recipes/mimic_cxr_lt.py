"""The label sets of CXR-LT 2023 and 2024 over MIMIC-CXR."""

from dataclasses import replace

from trcgl.core.recipe import AugmentRecipe, Recipe
from trcgl.recipes.trcgl import trcgl


def mimic_cxr_lt() -> Recipe:
    """TRCGL-Net over ConvNeXtV2-Tiny at 512 px, for MIMIC-CXR-LT.

    Data: the CXR-LT label tables over MIMIC-CXR-JPG (`trcgl prepare mimic-cxr-lt --root MIMIC --out mimic-cxr-lt
    --size 512`, about 100 GB). Hardware: one GPU with 40 GB. Hours and numbers: not measured here; the winner of 2023
    reports mAP .372 on 26 findings at 1024 px (CheXFusion).

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train mimic-cxr-lt --recipe mimic_cxr_lt --out mimic-cxr-lt-run
    """
    base = trcgl()
    return replace(
        base,
        name="mimic_cxr_lt",
        model=replace(
            base.model,
            image_size=512,
        ),
        augment=AugmentRecipe(erasing=0.2),
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
