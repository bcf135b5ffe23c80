"""A few thousand real radiographs on a CPU."""

from trcgl.core.recipe import AugmentRecipe, LossRecipe, ModelRecipe, Recipe, TrainRecipe


def nih_mini() -> Recipe:
    """TRCGL-Net over EfficientNet-Lite0 on a few thousand radiographs of NIH ChestX-ray14.

    Data: about 2,300 radiographs at 224 px (`trcgl prepare nih`). Hardware: 2 CPU cores. The initial weights
    (ImageNet, TensorFlow padding) are given on the command line as a safetensors file. Hours and numbers: not measured
    here yet.

        trcgl train nih-mini --recipe nih_mini --model.weights efficientnet_lite0_imagenet.safetensors --out RUN
    """
    return Recipe(
        name="nih_mini",
        model=ModelRecipe(
            backbone="tf_efficientnet_lite0",
            weights="none",
            image_size=224,
            reweighting_gate=0.0,
            attention_gate=0.0,
            graph_gate=0.0,
            learn_gates=True,
            drop_path=0.1,
            dropout=0.3,
        ),
        loss=LossRecipe(name="bce"),
        augment=AugmentRecipe(rotation=7.0, translation=0.05, scale=0.08, brightness=0.07, contrast=0.15),
        train=TrainRecipe(
            epochs=9, batch_size=32, backbone_lr=5e-4, head_lr=1e-3, warmup_steps=45, clip_gradient=2.0, ema=0.99
        ),
    )
