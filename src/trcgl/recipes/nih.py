"""The whole of NIH ChestX-ray14 on one GPU."""

from dataclasses import replace

from trcgl.core.recipe import Recipe
from trcgl.recipes.trcgl import trcgl


def nih() -> Recipe:
    """TRCGL-Net over ConvNeXtV2-Tiny at 224 px, for ChestX-ray14 and its official test list.

    Data: 112,120 radiographs (`trcgl prepare nih --root NIH --out nih`, 5.6 GB; put `test_list.txt` beside the table).
    Hardware: one GPU with 16 GB. Hours and numbers: not measured here; published at 224 px are mAUC .841 (CheXNet,
    own split) and .852 (ConvNeXtV2, Informatics 12:80).

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train nih --recipe nih --out nih-run
    """
    base = trcgl()
    return replace(
        base,
        name="nih",
        train=replace(
            base.train,
            epochs=15,
            batch_size=64,
            backbone_lr=1e-4,
            head_lr=1e-3,
            warmup_steps=500,
            ema=0.9995,
            patience=4,
            save_steps=500,
        ),
    )
