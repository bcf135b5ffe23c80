"""Recipes for `trcgl train`. A docstring states the data, the hardware, the training time and the metrics."""

from dataclasses import replace
from typing import Any

from trcgl.core.loss_settings import DistributionBalancedSettings, PublishedMarginSettings
from trcgl.core.recipe import (
    AugmentRecipe,
    EvaluateRecipe,
    LossRecipe,
    ModelRecipe,
    Recipe,
    SyntheticRecipe,
    TrainRecipe,
)


def _from_zero(**settings: Any) -> ModelRecipe:
    """A network whose gates are learned, by default from 0, so that a module is used only if it helps."""
    gates: dict[str, Any] = {"reweighting_gate": 0.0, "attention_gate": 0.0, "graph_gate": 0.0, "learn_gates": True}
    return ModelRecipe(**gates | settings)


def trcgl() -> Recipe:
    """TRCGL-Net for any dataset. The gates of its modules are learned from 0: a module is used only if it helps.

    Data: any prepared dataset at 224 px. Hardware: one GPU with 12 GB or more. Training time and metrics: not measured.

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train DATASET --recipe trcgl --out RUN
    """
    return Recipe(
        name="trcgl",
        model=_from_zero(backbone="convnextv2_tiny.fcmae_ft_in22k_in1k", weights="hub", drop_path=0.1),
        train=TrainRecipe(epochs=30, batch_size=64, ema=0.999, patience=8, precision="bf16-mixed"),
    )


def trcgl_paper() -> Recipe:
    """TRCGL-Net as its authors released it (arXiv 2607.00975; November-1113/TRCGL-Net at 31bb3c8, CXR.py).

    Add the paper's synthetic images with `--synthetic`. Differences from the release, which docs/train.md explains: the
    backbone starts from ImageNet; augmentation is as written, not as the release's albumentations executes it, with the
    same noise in all color channels; initial weights of classifier and attention; the best epoch follows the warm-up of
    the head; a loss that is not finite stops the run; the batch size is of all devices together.

    Data: PadChest-30 at 224 px, squashed to a square (`trcgl prepare padchest --fit squash`). Hardware: one GPU with 24
    GB or more. Training time and metrics: not measured; the paper reports mAP .4408, tail mAP .4904 and mAUC .8989 on
    one validation fold, on which the epoch was also chosen.

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0. The margin favors head findings, as published.

        trcgl train padchest --recipe trcgl_paper --out padchest-paper
    """
    return Recipe(
        name="trcgl_paper",
        model=ModelRecipe(
            backbone="convnextv2_base.fcmae_ft_in22k_in1k",
            weights="hub",
            image_size=224,
            drop_path=0.2,
            head_norm="batch",
            head="trcgl",
            reweighting_gate=0.05,
            attention_gate=0.1,
            graph_gate=0.05,
            reduction=16,
            reweighting_bias=False,
            label_embedding=256,
            embedding_std=0.02,
            graph_smoothing=1.0,
            graph_threshold=0.02,
            graph_self_loop=2.0,
            graph_activation="relu",
            graph_dropout=0.1,
            cosine_scale=1.0,
        ),
        loss=LossRecipe(
            "published_margin", settings=PublishedMarginSettings(margin="effective_number"), reduction="sum"
        ),
        augment=AugmentRecipe(
            horizontal_flip=True,
            rotation=7.0,
            translation=0.03,
            scale=0.05,
            geometry_probability=0.4,
            brightness=0.08,
            contrast=0.08,
            contrast_around="black",
            intensity_probability=0.2,
            clahe=0.2,
            noise=0.15,
            holes=0.15,
        ),
        train=TrainRecipe(
            epochs=60,
            head_warmup_epochs=10,
            head_warmup_lr=1e-3,
            head_warmup_decay=0.01,
            frozen_mode="train",
            batch_size=32,
            backbone_lr=1.5e-5,
            head_lr=1.5e-4,
            weight_decay=0.05,
            backbone_decay=0.01,
            decay_all=True,
            adam_eps=1e-5,
            schedule="epoch",
            warmup_epochs=5,
            lr_floor=0.01,
            clip_gradient=1.0,
            ema=0.9999,
            ema_warmup=False,
            absent_findings="zero",
            patience=10,
            row_sampling="repeat_factor",
            repeat_threshold=0.01,
            repeat_cap=10.0,
            repeat_frequency="labels",
            repeat_epoch="whole",
            precision="16-mixed",
        ),
        synthetic=SyntheticRecipe(weight=0.5, warmup=10, schedule="pool", unrequested="absent"),
        evaluate=EvaluateRecipe(threshold=0.2),
    )


def padchest() -> Recipe:
    """TRCGL-Net over ConvNeXtV2-Base at 512 px, for the frontal radiographs and thirty findings of PadChest-30.

    Data: 123,367 radiographs with any of the 30 findings (`trcgl prepare padchest --root PADCHEST --out padchest
    --size 512`, 41 GB), of which the frontal ones, about two thirds, are trained and evaluated. Labels belong to the
    study, so a lateral image has labels of findings that only the frontal image shows: its mAP is about .09 lower
    (notes of the third place of CXR-LT 2026). `--train.views --evaluate.views` without values take every image.
    Hardware: one GPU with 24 GB; eight batches of 8 images per step take an estimated 13 GiB. Training time and
    metrics: 15 epochs of 941 steps, not measured; published at 512 px on another internal split is mAP .439 (six seeds,
    CXR-LT 2026 third place).

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train padchest --recipe padchest --out padchest-run
    """
    base = trcgl()
    train = replace(
        base.train,
        epochs=15,
        batch_size=8,
        accumulate=8,
        backbone_lr=5e-5,
        head_lr=5e-4,
        warmup_steps=1000,
        ema=0.9998,
        patience=4,
        save_steps=500,
        views=("frontal",),
    )
    return replace(
        base,
        name="padchest",
        model=replace(base.model, backbone="convnextv2_base.fcmae_ft_in22k_in1k_384", image_size=512, drop_path=0.2),
        augment=replace(base.augment, erasing=0.2),
        train=train,
        evaluate=EvaluateRecipe(views=("frontal",)),
    )


def padchest_80gb() -> Recipe:
    """The recipe `padchest` at 768 px, for one GPU with 80 GB.

    Data: PadChest at 768 px (`trcgl prepare padchest --root PADCHEST --out padchest --size 768`, 91 GB). Hardware: one
    GPU with 80 GB; four batches of 16 images per step take an estimated 49 GiB. Training time and metrics: 15 epochs of
    941 steps, not measured; the third place of CXR-LT 2026 gained .017 mAP from 512 to 768 px.

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train padchest --recipe padchest_80gb --out padchest-run
    """
    base = padchest()
    train = replace(base.train, batch_size=16, accumulate=4)
    return replace(base, name="padchest_80gb", model=replace(base.model, image_size=768), train=train)


def padchest_mldecoder() -> Recipe:
    """ML-Decoder and the asymmetric loss over ConvNeXtV2-Base, as the leading entries of CXR-LT 2026.

    Data: as for `padchest`. Hardware: one GPU with 24 GB; eight batches of 8 images per step take an estimated 13 GiB
    at 512 px. For 768 px add `--model.image-size 768 --train.gradient-checkpointing` (8 GiB, about 30 % slower).
    Training time and metrics: 15 epochs of 941 steps, not measured; the third place reports mAP .385 at 384 px for the
    asymmetric loss, .439 at 512 px after corrections and with averaged weights, and .462 at 1024 px, on an internal
    split that shares patients between train and val.

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train padchest --recipe padchest_mldecoder --out padchest-mldecoder-run
    """
    base = padchest()
    model = replace(base.model, head="ml_decoder", label_embedding=768, attention_heads=8)
    return replace(base, name="padchest_mldecoder", model=model, loss=LossRecipe("asl"))


def cxr_lt_2026() -> Recipe:
    """The recipe `padchest` on every view, for task 1 of CXR-LT 2026 (30 findings, macro mAP).

    Data: the challenge's labels over PadChest (`trcgl prepare cxr-lt-2026 --root PADCHEST --out cxr-lt-2026 --size
    512`). `prepare` prints how many images of the test lists are lateral; where none is, add `--train.views frontal
    --evaluate.views frontal`. Hardware: one GPU with 24 GB. Training time and metrics: not measured; on the challenge's
    test the best macro mAP is .585, on internal splits the third place reports .439 at 512 px.

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train cxr-lt-2026 --recipe cxr_lt_2026 --out cxr-lt-run
    """
    base = padchest()
    return replace(base, name="cxr_lt_2026", train=replace(base.train, views=()), evaluate=EvaluateRecipe())


def nih() -> Recipe:
    """TRCGL-Net over ConvNeXtV2-Tiny at 224 px, for ChestX-ray14 and its official test list.

    Data: 112,120 radiographs (`trcgl prepare nih --root NIH --out nih`, 5.6 GB; put `test_list.txt` beside the table).
    Hardware: one GPU with 16 GB. Training time and metrics: not measured; published at 224 px are mAUC .841 (CheXNet,
    own split) and .852 (ConvNeXtV2, Informatics 12:80).

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train nih --recipe nih --out nih-run
    """
    base = trcgl()
    train = replace(base.train, epochs=15, warmup_steps=500, ema=0.9995, patience=4, save_steps=500)
    return replace(base, name="nih", train=train)


def nih_mini() -> Recipe:
    """TRCGL-Net over EfficientNet-Lite0, for a few thousand radiographs of NIH ChestX-ray14 on a CPU.

    Data: about 2,300 radiographs at 224 px (`trcgl prepare nih`). Hardware: 2 CPU cores. Training time and metrics:
    10 minutes; on 371 patients of test mAUC .736 [.711, .760], mAP .347 [.308, .388] and tail mAP .209 [.084, .433].
    Give the initial weights (ImageNet, TensorFlow padding) as a safetensors file.

        trcgl train nih-mini --recipe nih_mini --model.weights efficientnet_lite0_imagenet.safetensors --out RUN
    """
    return Recipe(
        name="nih_mini",
        model=_from_zero(backbone="tf_efficientnet_lite0", weights="none", image_size=224, drop_path=0.1, dropout=0.3),
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


def chexpert() -> Recipe:
    """TRCGL-Net over ConvNeXtV2-Tiny at 320 px, for the fourteen findings of CheXpert.

    Data: 223,414 radiographs (`trcgl prepare chexpert --root CHEXPERT --out chexpert --size 320`, 23 GB); uncertain
    labels are unknown and left out of the loss. Hardware: one GPU with 24 GB. Training time and metrics: not measured.

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train chexpert --recipe chexpert --out chexpert-run
    """
    base = trcgl()
    train = replace(base.train, epochs=8, warmup_steps=1000, ema=0.9998, save_steps=500)
    return replace(base, name="chexpert", model=replace(base.model, image_size=320), train=train)


def mimic_cxr_lt() -> Recipe:
    """TRCGL-Net over ConvNeXtV2-Tiny at 512 px, for the label sets of CXR-LT 2023 and 2024 over MIMIC-CXR.

    Data: the CXR-LT label tables over MIMIC-CXR-JPG (`trcgl prepare mimic-cxr-lt --root MIMIC --out mimic-cxr-lt --size
    512`, about 100 GB). Hardware: one GPU with 24 GB; four batches of 16 images per step take an estimated 12 GiB.
    Training time and metrics: not measured; the winner of 2023 reports mAP .372 on 26 findings at 1024 px (CheXFusion).

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train mimic-cxr-lt --recipe mimic_cxr_lt --out mimic-cxr-lt-run
    """
    base = chexpert()
    model, augment = replace(base.model, image_size=512), replace(base.augment, erasing=0.2)
    train = replace(base.train, batch_size=16, accumulate=4)
    return replace(base, name="mimic_cxr_lt", model=model, augment=augment, train=train)


def vindr() -> Recipe:
    """TRCGL-Net over ConvNeXtV2-Tiny at 512 px, for VinDr-CXR (VinBigData).

    Data: 15,000 radiographs read by radiologists (`trcgl prepare vindr --root VINDR --out vindr --size 512`, 4 GB).
    Hardware: one GPU with 24 GB; two batches of 16 images per step take an estimated 12 GiB. Training time and metrics:
    not measured.

    The ImageNet weights of ConvNeXtV2 are CC-BY-NC 4.0.

        trcgl train vindr --recipe vindr --out vindr-run
    """
    base = trcgl()
    return replace(
        base,
        name="vindr",
        model=replace(base.model, image_size=512, drop_path=0.2, dropout=0.2),
        augment=replace(base.augment, erasing=0.2),
        train=replace(base.train, batch_size=16, accumulate=2, warmup_steps=300, patience=6),
    )


def chestmnist() -> Recipe:
    """TRCGL-Net over RegNetX-200MF from scratch at 64 px, for MedMNIST's ChestMNIST (thumbnails of ChestX-ray14).

    Data: 112,120 thumbnails of 64 px (`trcgl prepare chestmnist --root CHESTMNIST --out chestmnist --size 64`).
    Hardware: 2 CPU cores, or any GPU. Training time and metrics: not measured; MedMNIST v2 reports mAUC .768 for
    ResNet-18 at 28 px.

        trcgl train chestmnist --recipe chestmnist --out chestmnist-run
    """
    return Recipe(
        name="chestmnist",
        model=_from_zero(backbone="regnetx_002", image_size=64, output_stride=8),
        augment=AugmentRecipe(rotation=5.0, translation=0.05, scale=0.05),
        train=TrainRecipe(
            epochs=10, batch_size=128, backbone_lr=2e-3, head_lr=2e-3, warmup_steps=200, ema=0.999, save_steps=200
        ),
    )


def phantom() -> Recipe:
    """TRCGL-Net over a ten-layer ResNet from scratch, for rendered phantoms; the recipe of `trcgl demo`.

    Data: 4,000 training phantoms of 96 px (`trcgl prepare phantom --out phantom`). Hardware: 2 CPU cores. Training time
    and metrics: 5 minutes; on test, weighted to the benchmark, mAP .660 [.647, .673] and tail mAP .756 [.722, .788]; on
    a benchmark rendered with another seed .631 [.617, .646] and .748 [.709, .783]. Loss, row sampling and the initial
    attention gate were chosen for the tail, on val at 64 px (docs/results/ablation-phantom.md).

        trcgl train phantom --recipe phantom --out phantom-run
    """
    return Recipe(
        name="phantom",
        model=_from_zero(backbone="resnet10t", image_size=96, output_stride=16, attention_gate=1.0),
        loss=LossRecipe(
            "distribution_balanced", settings=DistributionBalancedSettings(divide_shift=False, focal_gamma=0.0)
        ),
        augment=AugmentRecipe(rotation=2.0, translation=0.016, scale=0.03, brightness=0.03, contrast=0.06),
        train=TrainRecipe(
            epochs=5,
            batch_size=16,
            backbone_lr=4e-3,
            head_lr=4e-3,
            warmup_steps=180,
            row_sampling="class_balanced",
            repeat_threshold=0.1,  # for studies with row_sampling repeat_factor
        ),
    )
