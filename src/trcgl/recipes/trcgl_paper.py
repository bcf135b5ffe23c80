"""The published settings of TRCGL-Net, also where they are odd."""

from trcgl.core.loss_settings import PublishedMarginSettings
from trcgl.core.recipe import AugmentRecipe, LossRecipe, ModelRecipe, Recipe, SyntheticRecipe, TrainRecipe


def trcgl_paper() -> Recipe:
    """TRCGL-Net as published (arXiv 2607.00975); the published run had drawn images too, which `--synthetic` adds.

    Data: PadChest-30 at 224 px, squashed to a square (`trcgl prepare padchest --fit squash`). Hardware: one GPU with
    24 GB or more. Hours and numbers: not measured here; the paper reports mAP .4408, tail mAP .4904 and mAUC .8989 on
    one validation fold on which the epoch was chosen.

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0. The margin favors head findings, as published.

        trcgl train padchest --recipe trcgl_paper --out padchest-paper
    """
    return Recipe(
        name="trcgl_paper",
        model=ModelRecipe(
            backbone="convnextv2_base.fcmae_ft_in22k_in1k",
            weights="hub",
            image_size=224,
            head="trcgl",
            reweighting_gate=0.05,
            attention_gate=0.1,
            graph_gate=0.05,
            reduction=16,
            label_embedding=256,
            graph_threshold=0.02,
        ),
        loss=LossRecipe(
            "published_margin",
            settings=PublishedMarginSettings(beta=0.9999, weight_power=0.5, max_margin=0.2),
        ),
        augment=AugmentRecipe(horizontal_flip=True),
        train=TrainRecipe(
            epochs=60,
            head_warmup_epochs=10,
            batch_size=32,
            backbone_lr=1.5e-5,
            head_lr=1.5e-4,
            ema=0.9999,
            row_sampling="repeat_factor",
            repeat_threshold=0.01,
            repeat_cap=10.0,
            precision="bf16-mixed",
        ),
        synthetic=SyntheticRecipe(weight=0.5, warmup=10, schedule="mix"),
    )
