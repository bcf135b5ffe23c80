"""The whole of NIH ChestX-ray14 on one GPU."""

from trcgl.core.recipe import LossRecipe, ModelRecipe, Recipe, TrainRecipe


def nih() -> Recipe:
    """TRCGL-Net over ConvNeXtV2-Tiny at 224 px, for ChestX-ray14 and its official test list.

    Data: 112,120 radiographs (`trcgl prepare nih --root NIH --out nih`, 5.6 GB; put `test_list.txt` beside the table).
    Hardware: one GPU with 16 GB. Hours and numbers: not measured here; published at 224 px are mAUC .841 (CheXNet,
    own split) and .852 (ConvNeXtV2, Informatics 12:80).

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train nih --recipe nih --out nih-run
    """
    return Recipe(
        name="nih",
        model=ModelRecipe(
            backbone="convnextv2_tiny.fcmae_ft_in22k_in1k",
            weights="hub",
            drop_path=0.1,
            reweighting_gate=0.0,
            attention_gate=0.0,
            graph_gate=0.0,
            learn_gates=True,
        ),
        loss=LossRecipe(name="bce"),
        train=TrainRecipe(
            epochs=15,
            batch_size=64,
            backbone_lr=1e-4,
            head_lr=1e-3,
            warmup_steps=500,
            ema=0.9995,
            patience=4,
            precision="bf16-mixed",
            save_steps=500,
        ),
    )
