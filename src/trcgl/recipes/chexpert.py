"""CheXpert's fourteen findings, uncertain labels masked."""

from trcgl.core.recipe import LossRecipe, ModelRecipe, Recipe, TrainRecipe


def chexpert() -> Recipe:
    """TRCGL-Net over ConvNeXtV2-Tiny at 320 px, for CheXpert.

    Data: 223,414 radiographs (`trcgl prepare chexpert --root CHEXPERT --out chexpert --size 320`, 23 GB); uncertain
    labels stay unknown and are masked. Hardware: one GPU with 24 GB. Hours and numbers: not measured here.

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train chexpert --recipe chexpert --out chexpert-run
    """
    return Recipe(
        name="chexpert",
        model=ModelRecipe(
            backbone="convnextv2_tiny.fcmae_ft_in22k_in1k",
            weights="hub",
            image_size=320,
            drop_path=0.1,
            reweighting_gate=0.0,
            attention_gate=0.0,
            graph_gate=0.0,
            learn_gates=True,
        ),
        loss=LossRecipe(name="bce"),
        train=TrainRecipe(
            epochs=8,
            batch_size=64,
            backbone_lr=1e-4,
            head_lr=1e-3,
            warmup_steps=1000,
            ema=0.9998,
            precision="bf16-mixed",
            save_steps=500,
        ),
    )
