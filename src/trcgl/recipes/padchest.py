"""PadChest's thirty findings on one large GPU."""

from dataclasses import replace

from trcgl.core.recipe import AugmentRecipe, Recipe
from trcgl.recipes.trcgl import trcgl


def padchest() -> Recipe:
    """TRCGL-Net over ConvNeXtV2-Base at 512 px, for PadChest-30.

    Data: 123,367 radiographs with any of the 30 findings (`trcgl prepare padchest --root PADCHEST --out padchest
    --size 512`, 41 GB). Hardware: one GPU with 80 GB. Hours and numbers: not measured here; published at 512 px on
    another internal split is mAP .439 (six seeds, CXR-LT 2026 third place).

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train padchest --recipe padchest --out padchest-run
    """
    base = trcgl()
    return replace(
        base,
        name="padchest",
        model=replace(
            base.model,
            backbone="convnextv2_base.fcmae_ft_in22k_in1k_384",
            image_size=512,
            drop_path=0.2,
        ),
        augment=AugmentRecipe(erasing=0.2),
        train=replace(
            base.train,
            epochs=15,
            batch_size=64,
            backbone_lr=5e-5,
            head_lr=5e-4,
            warmup_steps=1000,
            ema=0.9998,
            patience=4,
            save_steps=500,
        ),
    )
