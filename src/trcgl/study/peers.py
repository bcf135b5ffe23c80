"""The peers: published methods as changes of a base recipe. To add a peer, add an `Arm` here.

Heads, losses, row sampling, retraining and mixup change `PLAIN`, so that each is compared alone.
"""

from trcgl.core.recipe import Recipe
from trcgl.study.arms import PLAIN, Arm, Changes

SMALL = 160
"""Smaller images get a finer feature map than the backbone's own stride of 32 gives."""
GENTLE = 5e-4
"""Highest learning rate for LayerNorm networks and transformer layers. A small ResNet from scratch trains with 4e-3, at
which label queries learn next to nothing (docs/study.md)."""


def _backbone(
    name: str, model: str, reference: str, *, fine: Changes | None = None, gentle: bool = False, drops: bool = True
) -> Arm:
    """A timm backbone under a linear layer.

    `fine` are changes for small images, `gentle` caps the learning rates, and without `drops` there is no stochastic
    depth.
    """

    def changes(base: Recipe) -> Changes:
        unset = ("model.output_stride", "model.patch_size", "train.frozen_stages")
        own = {**PLAIN, "model.backbone": model, **dict.fromkeys(unset)}
        if base.model.image_size < SMALL:
            own |= fine or {}
        if not drops:
            own["model.drop_path"] = 0.0
        if gentle:
            own["train.backbone_lr"] = min(base.train.backbone_lr, GENTLE)
            own["train.head_lr"] = min(base.train.head_lr, GENTLE)
        return own

    def lacks(base: Recipe) -> str:
        """A backbone can start from timm's weights or at random, not from a file for another backbone."""
        other = model != base.model.backbone and base.model.weights not in ("hub", "none")
        return f"--model.weights hub or none, for {base.model.weights} is of {base.model.backbone}" if other else ""

    differs = "Image size, schedule and kind of initial weights are the base's"
    differs += f"; finer maps below {SMALL} pixels." if fine else "."
    differs += "" if drops else " It has no stochastic depth."
    return Arm(name, changes, reference, differs, lacks=lacks)


def _head(name: str, reference: str, differs: str, changes: Changes | None = None, *, gentle: bool = False) -> Arm:
    """A head on the base's backbone; `gentle` caps its learning rate, as label queries and class tokens need."""

    def all_changes(base: Recipe) -> Changes:
        rate = {"train.head_lr": min(base.train.head_lr, GENTLE)} if gentle else {}
        return {**PLAIN, "model.head": name, **(changes or {}), **rate}

    rate = f" The head's learning rate is at most {GENTLE:g}." if gentle else ""
    return Arm(name, all_changes, reference, differs + rate)


def _loss(name: str, reference: str, differs: str, loss: str = "", **settings: float | bool) -> Arm:
    """A loss and its settings; the loss has the name of the arm unless another is given."""
    own = {f"loss.settings.{setting}": value for setting, value in settings.items()}
    return Arm(name, {**PLAIN, "loss.name": loss or name, **own}, reference, differs)


def _ml_gcn(base: Recipe) -> Changes:
    """ML-GCN with frozen text embeddings if the base has them, else with random embeddings that are learned."""
    return {
        **PLAIN,
        "model.head": "ml_gcn",
        "model.graph": "ml_gcn",
        "model.graph_threshold": 0.4,
        "model.graph_share": 0.2,
        "model.learn_embeddings": base.model.label_text is None,
    }


def _second_epoch(base: Recipe) -> str:
    warmup = max(1, base.train.head_warmup_epochs)
    return "" if base.train.epochs > warmup else f"--train.epochs of {warmup + 1} or more"


_RANDOM: Changes = {"model.label_text": None}
_STRIDE_16: Changes = {"model.output_stride": 16}
_PATCH_8: Changes = {"model.patch_size": 8}
_PATCH_2: Changes = {"model.patch_size": 2}
_TEXT = "the folder of a transformers text model as --model.label-text"

PEERS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("trcgl", {}, "TRCGL-Net, arXiv 2607.00975", "The base recipe as it is."),
        Arm("linear", PLAIN, "", "The base's backbone alone: the baseline of every remedy."),
        Arm(
            "trcgl_published",
            {
                "model.head": "trcgl",
                "model.head_norm": "batch",
                "model.reweighting_gate": 0.05,
                "model.attention_gate": 0.1,
                "model.graph_gate": 0.05,
                "model.learn_gates": False,
                "model.switched_off": (),
                "model.graph": "symmetric",
                "model.graph_threshold": 0.02,
                "model.graph_smoothing": 1.0,
                "model.graph_self_loop": 2.0,
                "model.graph_activation": "relu",
                "model.graph_dropout": 0.1,
                "model.reweighting_bias": False,
                "model.embedding_std": 0.02,
                "model.cosine_scale": 1.0,
                "loss.name": "published_margin",
                "loss.reduction": "sum",
                "loss.beta": 0.9999,
                "loss.weight_power": 0.5,
                "loss.max_margin": 0.2,
                "loss.settings.margin": "effective_number",
                "train.row_sampling": "repeat_factor",
                "train.repeat_threshold": 0.01,
                "train.repeat_cap": 10.0,
                "train.repeat_frequency": "labels",
            },
            "TRCGL-Net, arXiv 2607.00975",
            "Head, graph, loss and repeat factors of the authors' release; an epoch is cut to as many images as there "
            "are rows. The base's backbone, optimizer, schedule and augmentation.",
        ),
        _backbone("resnet50", "resnet50", "He et al. 2016", fine=_STRIDE_16),
        _backbone("densenet121", "densenet121", "Huang et al. 2017; CheXNet, Rajpurkar et al. 2017", drops=False),
        _backbone("efficientnet_b0", "efficientnet_b0", "Tan & Le 2019", fine=_STRIDE_16),
        _backbone("convnext_tiny", "convnext_tiny", "Liu et al. 2022", fine=_STRIDE_16, gentle=True),
        _backbone("convnext_atto", "convnext_atto", "Liu et al. 2022; timm", fine=_STRIDE_16, gentle=True),
        _backbone("convnextv2_tiny", "convnextv2_tiny", "Woo et al. 2023", fine=_STRIDE_16, gentle=True),
        _backbone("convnextv2_atto", "convnextv2_atto", "Woo et al. 2023", fine=_STRIDE_16, gentle=True),
        _backbone("vit_small", "vit_small_patch16_224", "Dosovitskiy et al. 2021", fine=_PATCH_8, gentle=True),
        _backbone("vit_tiny", "vit_tiny_patch16_224", "Dosovitskiy et al. 2021", fine=_PATCH_8, gentle=True),
        _backbone("swin_tiny", "swin_tiny_patch4_window7_224", "Liu et al. 2021", fine=_PATCH_2, gentle=True),
        _head(
            "csra",
            "CSRA, Zhu & Wu 2021",
            "Four heads and λ = 0.5, as the authors' code on COCO.",
            {
                "model.attention_heads": 4,
                "model.csra_gate": 0.5,
                "model.attention_gate": 0.1,  # of model.head_version 0.2
                "model.learn_gates": False,
            },
        ),
        _head(
            "ml_decoder",
            "ML-Decoder, Ridnik et al. 2023",
            "A query for every finding, at most 100; width and heads are the base's (768 and 8 there), and the "
            "feed-forward layer is four times as wide (2,048 there).",
            {
                "model.queries": None,
                "model.learn_embeddings": False,
                "model.decoder_dropout": 0.1,
                **_RANDOM,
            },
            gentle=True,
        ),
        _head(
            "query2label",
            "Query2Label, Liu et al. 2021",
            "One encoder and two decoder layers with four heads, as the authors' code; the width is the base's (2,048 "
            "there), and a linear layer maps the feature map to it.",
            {
                "model.encoder_blocks": 1,
                "model.attention_blocks": 2,
                "model.attention_heads": 4,
                "model.learn_embeddings": True,
                "model.decoder_dropout": 0.1,
                **_RANDOM,
            },
            gentle=True,
        ),
        _head(
            "clarity",
            "CLARiTy, Statheros et al. 2025",
            "Class tokens over the map of the base's backbone instead of a whole vision transformer; without "
            "background suppression, teacher, self-supervised start and orthogonality loss.",
            {"model.learn_embeddings": True, **_RANDOM},
            gentle=True,
        ),
        Arm(
            "ml_gcn",
            _ml_gcn,
            "ML-GCN, Chen et al. 2019 (CVPR)",
            "Label embeddings are vectors of text (GloVe there), kept as they are, if the base has model.label_text; "
            "else random and learned. The hidden layer is the base's (1,024 there).",
        ),
        _head(
            "chexgcn",
            "CheXGCN, Chen et al. 2020 (JBHI)",
            "Simplified: the scores of the graph are added to the image's. Graph and embeddings are the base's.",
        ),
        _head(
            "dualattnet",
            "DualAttNet, Xu & Duan 2024",
            "Simplified: a classifier instead of a detector; fine-grained attention is learned from image labels.",
        ),
        _head(
            "experts",
            "LTCXNet, Huang et al. 2024",
            "Simplified: experts for head, medium and tail findings share a backbone and have no ML-Decoder.",
        ),
        Arm(
            "random_labels",
            _RANDOM,
            "",
            "The base recipe with random initial label embeddings instead of text embeddings.",
            lacks=lambda base: "" if base.model.label_text else _TEXT,
        ),
        _loss("focal", "Lin et al. 2017", "Per finding, with γ = 2 and no class weight.", focal_gamma=2.0),
        _loss(
            "asl",
            "Ridnik et al. 2021",
            "γ+ = 0, γ- = 4, clip = 0.05 unless the base says otherwise; the mean over labels instead of their sum.",
            constant_focus=True,
        ),
        Arm(
            "published_margin",
            {
                **PLAIN,
                "loss.name": "published_margin",
                "loss.settings.margin": "effective_number",
                "loss.reduction": "sum",
            },
            "TRCGL-Net, arXiv 2607.00975",
            "The loss alone, summed over the findings as in the authors' release.",
        ),
        _loss(
            "ldam",
            "LDAM-DRW, Cao et al. 2019",
            "A sigmoid per finding instead of a softmax over cosines; logits are not scaled; weights are of findings.",
            max_margin=0.5,
            margin_scale=1.0,
            beta=0.9999,
            defer=0.8,
        ),
        _loss(
            "effective_number",
            "Class-balanced loss, Cui et al. 2019",
            "The loss, not the row sampling class_balanced; weights are per finding, not per row.",
            "class_balanced",
            beta=0.9999,
        ),
        Arm(
            "distribution_balanced",
            {
                **PLAIN,
                "loss.name": "distribution_balanced",
                "loss.settings.divide_shift": True,
                "loss.settings.focal_gamma": 2.0,
                "train.row_sampling": "class_aware",
            },
            "Wu et al. 2020",
            "With class-aware row sampling (three rows of a finding at a time there) and the focal factor of the "
            "authors' code.",
        ),
        _loss(
            "logit_adjusted",
            "Menon et al. 2021",
            "A sigmoid per finding instead of a softmax, moved by the log-odds of the finding; τ = 1.",
            tau=1.0,
        ),
        _loss(
            "entropy_maximization",
            "Zhou et al. 2022",
            "Labels may be known to be negative; without pseudo-labels. Equals linear if all labels are known.",
        ),
        Arm(
            "class_aware",
            {**PLAIN, "train.row_sampling": "class_aware"},
            "Shen et al. 2016",
            "Findings in turn, and the images of each in turn; an epoch shows as many images as there are rows.",
        ),
        Arm(
            "class_balanced",
            {**PLAIN, "train.row_sampling": "class_balanced"},
            "Shen et al. 2016",
            "As class_aware, but a finding and one of its images are chosen at random for every image shown.",
        ),
        Arm(
            "repeat_factor",
            {**PLAIN, "train.row_sampling": "repeat_factor"},
            "Gupta et al. 2019 (LVIS)",
            "Per image; an epoch is cut to as many images as there are rows.",
        ),
        Arm(
            "retrained",
            lambda base: {
                **PLAIN,
                "train.retrain_epochs": max(1, round(base.train.epochs / 10)),
                "train.retrain_sampling": "class_aware",
                "train.frozen_mode": "train",
            },
            "cRT, Kang et al. 2020",
            "The last tenth of the epochs, at least one, retrains the head on class-aware rows (paper: 10 more); the "
            "frozen backbone stays in training mode, as in the authors' code.",
            lacks=_second_epoch,
        ),
        Arm("mixup", {**PLAIN, "augment.mixup": 0.4}, "Zhang et al. 2018", "α = 0.4; a batch is mixed in pairs."),
        Arm(
            "synthetic",
            {},
            "TRCGL-Net, arXiv 2607.00975",
            "The base recipe with the images of --synthetic.",
            "synthetic",
        ),
        Arm(
            "synthetic_entropy_maximization",
            {"loss.name": "entropy_maximization"},
            "Zhou et al. 2022",
            "As synthetic, but the loss maximizes the entropy of unknown labels of synthetic images.",
            "synthetic",
        ),
        Arm(
            "duplicated",
            {},
            "Pink & Sykes 2026 (PMLR 318)",
            "The base recipe; each image of --synthetic is replaced by a duplicate of its real source image.",
            "duplicates",
        ),
        Arm(
            "dcgan",
            {},
            "DCGAN, Radford et al. 2016; conditional, Mirza & Osindero 2014",
            "The base recipe; each image of --synthetic is replaced by a DCGAN image of the same label set. The DCGAN "
            "has a quarter of the channels, learns from class-balanced batches and from real images with the labels "
            "of others (Reed et al. 2016), takes 900 steps and samples with averaged weights.",
            "dcgan",
        ),
    )
}
"""Name on the command line (`trcgl study peers --arms NAME ...`) to arm."""
