"""TRCGL-Net with learnable gates: the starting point for new data."""

from trcgl.core.recipe import LossRecipe, ModelRecipe, Recipe, TrainRecipe


def trcgl() -> Recipe:
    """TRCGL-Net whose three gates start at zero, so that each module has to earn its place.

    Data: any prepared dataset at 224 px. Hardware: one GPU with 12 GB or more. Hours and numbers: not measured here.

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train DATASET --recipe trcgl --out RUN
    """
    return Recipe(
        name="trcgl",
        model=ModelRecipe(
            backbone="convnextv2_tiny.fcmae_ft_in22k_in1k",
            weights="hub",
            reweighting_gate=0.0,
            attention_gate=0.0,
            graph_gate=0.0,
            learn_gates=True,
            drop_path=0.1,
        ),
        loss=LossRecipe(name="bce"),
        train=TrainRecipe(epochs=30, batch_size=64, ema=0.999, patience=8, precision="bf16-mixed"),
    )
