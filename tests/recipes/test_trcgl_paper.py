"""The recipe `trcgl_paper` and the code that the authors of TRCGL-Net released.

`tests/official_code/trcgl_net.json` has numbers of the authors' functions, with their lines in CXR.py.
"""

from dataclasses import replace
from operator import attrgetter

import numpy as np
import pytest
import torch
from torch import nn

from tests.official_code import official
from trcgl.dataset.cooccurrence import count_labels
from trcgl.model.heads import HEADS
from trcgl.model.label_graph import Labels, build_adjacency
from trcgl.recipes import RECIPES
from trcgl.training.losses import LOSSES
from trcgl.training.losses.base import elements, masked_mean
from trcgl.training.optimizer import rate_factor
from trcgl.training.sampling import epoch_rows, repeat_factors, row_sampler

RELEASE = official("trcgl_net")
PAPER = RECIPES["trcgl_paper"]()

VALUES = [
    ("model.drop_path", 0.2, "CXR.py:989"),
    ("model.head_norm", "batch", "CXR.py:1009"),
    ("model.head", "trcgl", "CXR.py:1011"),
    ("model.reweighting_gate", 0.05, "CXR.py:957"),
    ("model.attention_gate", 0.1, "CXR.py:1011"),
    ("model.graph_gate", 0.05, "CXR.py:115"),
    ("model.learn_gates", False, "CXR.py:957"),
    ("model.reduction", 16, "CXR.py:939"),
    ("model.reweighting_bias", False, "CXR.py:939"),
    ("model.label_embedding", 256, "CXR.py:114"),
    ("model.embedding_std", 0.02, "CXR.py:861"),
    ("model.graph", "symmetric", "CXR.py:813"),
    ("model.graph_smoothing", 1.0, "CXR.py:118"),
    ("model.graph_threshold", 0.02, "CXR.py:119"),
    ("model.graph_self_loop", 2.0, "CXR.py:824"),
    ("model.graph_activation", "relu", "CXR.py:881"),
    ("model.graph_dropout", 0.1, "CXR.py:116"),
    ("model.cosine_scale", 1.0, "CXR.py:888"),
    ("loss.name", "published_margin", "CXR.py:178"),
    ("loss.reduction", "sum", "CXR.py:366"),
    ("loss.settings.beta", 0.9999, "CXR.py:86"),
    ("loss.settings.weight_power", 0.5, "CXR.py:89"),
    ("loss.settings.max_margin", 0.2, "CXR.py:97"),
    ("loss.settings.margin", "effective_number", "CXR.py:227"),
    ("augment.horizontal_flip", True, "CXR.py:511"),
    ("augment.translation", 0.03, "CXR.py:513"),
    ("augment.scale", 0.05, "CXR.py:513"),
    ("augment.rotation", 7.0, "CXR.py:513"),
    ("augment.geometry_probability", 0.4, "CXR.py:514"),
    ("augment.clahe", 0.2, "CXR.py:516"),
    ("augment.brightness", 0.08, "CXR.py:517"),
    ("augment.contrast", 0.08, "CXR.py:517"),
    ("augment.contrast_around", "black", "CXR.py:517"),
    ("augment.intensity_probability", 0.2, "CXR.py:517"),
    ("augment.noise", 0.15, "CXR.py:518"),
    ("augment.holes", 0.15, "CXR.py:519"),
    ("augment.erasing", 0.0, "CXR.py:510"),
    ("augment.mixup", 0.0, "CXR.py:1126"),
    ("train.batch_size", 32, "CXR.py:62"),
    ("train.head_warmup_epochs", 10, "CXR.py:67"),
    ("train.head_warmup_lr", 1e-3, "CXR.py:68"),
    ("train.head_warmup_decay", 0.01, "CXR.py:1449"),
    ("train.frozen_mode", "train", "CXR.py:1118"),
    ("train.epochs", 60, "CXR.py:71"),
    ("train.backbone_lr", 1.5e-5, "CXR.py:72"),
    ("train.head_lr", 1.5e-4, "CXR.py:73"),
    ("train.clip_gradient", 1.0, "CXR.py:75"),
    ("train.ema", 0.9999, "CXR.py:76"),
    ("train.ema_warmup", False, "CXR.py:1479"),
    ("train.backbone_decay", 0.01, "CXR.py:1491"),
    ("train.weight_decay", 0.05, "CXR.py:1492"),
    ("train.decay_all", True, "CXR.py:1483"),
    ("train.adam_eps", 1e-5, "CXR.py:1494"),
    ("train.schedule", "epoch", "CXR.py:1533"),
    ("train.warmup_epochs", 5, "CXR.py:1499"),
    ("train.lr_floor", 0.01, "CXR.py:1111"),
    ("train.repeat_threshold", 0.01, "CXR.py:103"),
    ("train.repeat_cap", 10.0, "CXR.py:104"),
    ("train.row_sampling", "repeat_factor", "CXR.py:381"),
    ("train.repeat_frequency", "labels", "CXR.py:779"),
    ("train.repeat_epoch", "whole", "CXR.py:448"),
    ("synthetic.schedule", "pool", "CXR.py:771"),
    ("synthetic.unrequested", "absent", "CXR.py:577"),
    ("synthetic.warmup", 10, "CXR.py:1454"),
    ("synthetic.weight", 0.5, "CXR.py:1529"),
    ("train.absent_findings", "zero", "CXR.py:1270"),
    ("evaluate.threshold", 0.2, "CXR.py:109"),
    ("train.patience", 10, "CXR.py:106"),
    ("train.precision", "16-mixed", "CXR.py:1133"),
]


@pytest.mark.parametrize(("setting", "value", "line"), VALUES)
def test_the_recipe_has_the_value_of_the_release(setting, value, line):
    assert attrgetter(setting)(PAPER) == value, line


def paper_graph(labels):
    return build_adjacency(torch.from_numpy(count_labels(labels).conditional(PAPER.model.graph_smoothing)), PAPER.model)


def test_the_label_graph_is_that_of_the_release():
    graph = RELEASE["graph"]
    adjacency = paper_graph(np.array(graph["labels"], np.float32))
    torch.testing.assert_close(adjacency, torch.tensor(graph["adjacency"]), rtol=1e-5, atol=1e-6)


def test_the_loss_of_a_batch_is_that_of_the_release():
    numbers = RELEASE["loss"]
    loss = LOSSES[PAPER.loss.name](PAPER.loss.settings, torch.tensor(numbers["counts"]), 1000)
    target, synthetic = torch.tensor(numbers["target"]).float(), torch.tensor(numbers["synthetic"]).bool()
    for case in numbers["cases"]:
        logits = torch.tensor(numbers["logits"], requires_grad=True)
        weight = torch.where(synthetic, case["synthetic_weight"], 1.0)
        elementwise, counted = elements(loss, logits, target, torch.ones_like(target).bool(), torch.ones(5).bool())
        value = masked_mean(elementwise, counted, weight, torch.tensor(5.0))
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.item() == pytest.approx(case["value"], rel=3e-4)  # the release rounds β to float32
        torch.testing.assert_close(gradient, torch.tensor(case["gradient"]), rtol=3e-4, atol=1e-5)


def test_norm_and_head_compute_the_logits_of_the_release():
    numbers = RELEASE["head"]
    width, graph = numbers["width"], torch.tensor(RELEASE["graph"]["adjacency"])
    paper = replace(PAPER.model, label_embedding=8)
    norm, head = nn.BatchNorm2d(width).eval(), HEADS["trcgl"](width, paper, Labels(graph)).eval()
    theirs = {name: torch.tensor(value).reshape(numbers["shapes"][name]) for name, value in numbers["state"].items()}
    norm.load_state_dict({name[3:]: value for name, value in theirs.items() if name.startswith("bn.")}, strict=False)
    ours = {
        "classifier.weight": theirs["head.classifier.weight"],
        "classifier.bias": theirs["head.classifier.bias"],
        "attend.query.weight": theirs["head.conv_att.weight"].flatten(1),
        "reweight.squeeze.weight": theirs["head.channel_gate.1.weight"].flatten(1),
        "reweight.excite.weight": theirs["head.channel_gate.3.weight"].flatten(1),
        "graph.adjacency": theirs["label_gcn.adj"],
        "graph.embeddings": theirs["label_gcn.label_emb"],
        "graph.first.weight": theirs["label_gcn.gc1.fc.weight"],
        "graph.second.weight": theirs["label_gcn.gc2.fc.weight"],
        "graph.project.weight": theirs["label_gcn.image_proj.weight"],
        "graph.bias": theirs["label_gcn.bias"],
    }
    unset = head.load_state_dict(ours, strict=False)
    constants = {"reweight.gate", "attention_gate", "graph_gate", "graph.scale"}
    assert set(unset.missing_keys) == constants and not unset.unexpected_keys
    assert not any(weight.requires_grad for name, weight in head.named_parameters() if name in constants)
    feature = torch.tensor(numbers["feature"]).reshape(2, width, 3, 3)
    torch.testing.assert_close(head(norm(feature)).logits, torch.tensor(numbers["logits"]), rtol=1e-4, atol=1e-5)


def test_the_learning_rates_are_those_of_the_release():
    """Constant for ten epochs, then the schedule of the release, which changes after every epoch."""
    factor = rate_factor(PAPER.train, steps=60 * 7)
    of_epochs = [{factor(step) for step in range(7 * epoch, 7 * epoch + 7)} for epoch in range(60)]
    assert all(len(factors) == 1 for factors in of_epochs)
    rates = np.array([factors.pop() for factors in of_epochs])
    np.testing.assert_allclose(rates[:10] * PAPER.train.head_lr, 1e-3)
    np.testing.assert_allclose(rates[10:], RELEASE["schedule"]["factors"], atol=1e-7)


def test_rows_are_repeated_as_in_the_release():
    """As often, in succession; only the random order of the rows differs."""
    numbers = RELEASE["sampling"]
    labels = np.array(numbers["labels"], np.float32)
    factors = repeat_factors(labels, numbers["threshold"], PAPER.train.repeat_cap, PAPER.train.repeat_frequency)
    np.testing.assert_allclose(factors, numbers["factors"], rtol=1e-6)
    settings = replace(PAPER.train, repeat_threshold=numbers["threshold"])
    shown, theirs = row_sampler(settings, labels, 0)(1), np.array(numbers["epoch"])
    assert sorted(shown) == sorted(theirs)
    for rows in (shown, theirs):
        assert 1 + np.count_nonzero(np.diff(rows)) == len(labels)  # repeats of a row are adjacent
    assert epoch_rows(settings, labels) == len(theirs) // 32 * 32  # without an incomplete last batch


def test_label_embeddings_start_as_small_as_in_the_release():
    embeddings = HEADS["trcgl"](8, PAPER.model, Labels(torch.eye(30))).graph.embeddings
    assert embeddings.std().item() == pytest.approx(0.02, rel=0.05)
