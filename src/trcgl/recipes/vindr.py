"""VinDr-CXR: 15,000 radiographs that radiologists read."""

from trcgl.core.recipe import AugmentRecipe, LossRecipe, ModelRecipe, Recipe, TrainRecipe


def vindr() -> Recipe:
    """TRCGL-Net over ConvNeXtV2-Tiny at 512 px, for VinDr-CXR (VinBigData).

    Data: 15,000 radiographs (`trcgl prepare vindr --root VINDR --out vindr --size 512`, 4 GB). Hardware: one GPU with
    40 GB. Hours and numbers: not measured here.

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train vindr --recipe vindr --out vindr-run
    """
    return Recipe(
        name="vindr",
        model=ModelRecipe(
            backbone="convnextv2_tiny.fcmae_ft_in22k_in1k",
            weights="hub",
            image_size=512,
            drop_path=0.2,
            dropout=0.2,
            reweighting_gate=0.0,
            attention_gate=0.0,
            graph_gate=0.0,
            learn_gates=True,
        ),
        loss=LossRecipe(name="bce"),
        augment=AugmentRecipe(erasing=0.2),
        train=TrainRecipe(
            epochs=30,
            batch_size=32,
            backbone_lr=1e-4,
            head_lr=1e-3,
            warmup_steps=300,
            ema=0.999,
            patience=6,
            precision="bf16-mixed",
        ),
    )
