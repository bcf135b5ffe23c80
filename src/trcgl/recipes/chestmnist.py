"""ChestMNIST: all of ChestX-ray14 in thumbnails, for a CPU."""

from trcgl.core.recipe import AugmentRecipe, LossRecipe, ModelRecipe, Recipe, TrainRecipe


def chestmnist() -> Recipe:
    """TRCGL-Net over RegNetX-200MF from scratch at 64 px, for MedMNIST's ChestMNIST.

    Data: 112,120 thumbnails of 64 px (`trcgl prepare chestmnist --root CHESTMNIST --out chestmnist --size 64`).
    Hardware: 2 CPU cores, or any GPU. Hours and numbers: not measured here; MedMNIST v2 reports mAUC .768 for
    ResNet-18 at 28 px.

        trcgl train chestmnist --recipe chestmnist --out chestmnist-run
    """
    return Recipe(
        name="chestmnist",
        model=ModelRecipe(
            backbone="regnetx_002",
            image_size=64,
            output_stride=8,
            reweighting_gate=0.0,
            attention_gate=0.0,
            graph_gate=0.0,
            learn_gates=True,
        ),
        loss=LossRecipe(name="bce"),
        augment=AugmentRecipe(rotation=5.0, translation=0.05, scale=0.05),
        train=TrainRecipe(
            epochs=10, batch_size=128, backbone_lr=2e-3, head_lr=2e-3, warmup_steps=200, ema=0.999, save_steps=200
        ),
    )
