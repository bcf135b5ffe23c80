"""Drawn radiographs, a small network and a laptop: the recipe of `trcgl demo`."""

from trcgl.core.recipe import AugmentRecipe, LossRecipe, ModelRecipe, Recipe, TrainRecipe


def phantom() -> Recipe:
    """TRCGL-Net over a RegNetX-200MF from scratch, on phantoms.

    Data: `trcgl prepare phantom --out phantom --size 96`. Hardware: 2 CPU cores. Hours and
    numbers: not measured here yet.

        trcgl train phantom --recipe phantom --out phantom-run
    """
    return Recipe(
        name="phantom",
        model=ModelRecipe(
            backbone="regnetx_002",
            image_size=96,
            output_stride=16,
            reweighting_gate=0.0,
            attention_gate=0.0,
            graph_gate=0.0,
            learn_gates=True,
        ),
        loss=LossRecipe(name="bce"),
        augment=AugmentRecipe(rotation=4.0, translation=0.04, scale=0.05),
        train=TrainRecipe(
            epochs=10, batch_size=32, backbone_lr=2e-3, head_lr=2e-3, warmup_steps=100, ema=0.99, workers=0
        ),
    )
