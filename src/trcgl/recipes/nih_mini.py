"""A few thousand real radiographs on a CPU."""

from trcgl.core.recipe import AugmentRecipe, LossRecipe, ModelRecipe, Recipe, TrainRecipe


def nih_mini() -> Recipe:
    """TRCGL-Net over EfficientNet-Lite0 on a few thousand radiographs of NIH ChestX-ray14.

    Data: about 2,300 radiographs at 224 px (`trcgl prepare nih`). Hardware: 2 CPU cores. Hours and
    numbers: 10 minutes; on 371 patients of test mAUC .736 [.711, .760], mAP .347 [.308, .388] and tail mAP .209 [.084,
    .433]. The initial weights (ImageNet, TensorFlow padding) are given on the command line as a safetensors file.

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
        augment=AugmentRecipe(rotation=7.0, translation=0.05, scale=0.08, brightness=0.07, contrast=0.15, mixup=0.4),
        train=TrainRecipe(
            epochs=9,
            frozen_stages=2,
            batch_size=32,
            backbone_lr=5e-4,
            head_lr=1e-3,
            warmup_steps=45,
            clip_gradient=2.0,
            ema=0.99,
        ),
    )
