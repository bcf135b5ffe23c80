"""Heads of users and of installed packages: registered by name, checked, trained and loaded again."""

import sys

import pytest
import torch
from torch import nn

from tests.model.small_run import with_backbone, write_run
from trcgl.cli import main as cli
from trcgl.core.errors import RecipeError
from trcgl.core.recipe import ModelRecipe
from trcgl.model.folder import load_model
from trcgl.model.heads import HEADS, Head, HeadOutput, register_head
from trcgl.model.heads.check import check_head
from trcgl.model.trcgl_net import TrcglNet

PACKAGE = '''
from torch import nn

from trcgl.model.heads import Head, HeadOutput


class MaxHead(Head):
    """A linear layer on the largest features."""

    def __init__(self, width, recipe, labels):
        super().__init__(width, recipe, labels)
        self.classifier = nn.Linear(width, labels.findings)

    def forward(self, feature):
        return HeadOutput(self.classifier(feature.amax((2, 3))), None)
'''


class Flawed(Head):
    """Flattens the map, so that it fits one grid alone; each flaw is switched on by a test."""

    flaw = "none"

    def __init__(self, width, recipe, labels):
        super().__init__(width, recipe, labels)
        self.classifier = nn.Linear(width, labels.findings + (self.flaw == "shape"))
        if self.flaw == "untrained":
            self.spare = nn.Parameter(torch.zeros(1))

    def forward(self, feature):
        pooled = feature.mean((2, 3))
        if self.flaw == "batch":
            pooled = pooled - pooled.mean(0)
        if self.flaw == "random":
            pooled = pooled + torch.rand_like(pooled)
        logits = self.classifier(pooled)
        maps = feature[:, :1].expand(-1, logits.shape[1], -1, -1) if self.flaw == "maps" else None
        return HeadOutput(logits, maps)


@pytest.fixture
def registered():
    """Forget afterwards what a test registers."""
    before = dict(HEADS)
    yield
    for name in set(HEADS) - set(before):
        del HEADS[name]


@pytest.fixture
def installed(tmp_path, monkeypatch, registered):
    """An installed package that offers the head `max`."""
    info = tmp_path / "max_head-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: max-head\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[trcgl.heads]\nmax = max_head:MaxHead\n")
    (tmp_path / "max_head.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("max_head", None)


@pytest.mark.parametrize("name", HEADS.names())
def test_every_head_keeps_the_contract_that_users_can_check(name):
    check_head(HEADS[name])


@pytest.mark.parametrize(
    ("flaw", "problem"),
    [
        ("shape", r"logits have the shape \(1, 2\), not \(1, 1\)"),
        ("maps", "maps have negative values|does not sum to 1"),
        ("untrained", "no logit depends on: spare"),
        ("random", "differ between two calls"),
        ("batch", "depend on the other images"),
    ],
)
def test_a_head_that_breaks_the_contract_is_refused_with_the_problem(flaw, problem, monkeypatch):
    check_head(Flawed)
    monkeypatch.setattr(Flawed, "flaw", flaw)
    with pytest.raises(RecipeError, match=f"head Flawed: .*({problem})"):
        check_head(Flawed)


def test_a_registered_head_is_built_by_its_name(registered):
    register_head("mean", Flawed)
    network = TrcglNet(ModelRecipe(backbone="test_convnext", image_size=32, head="mean"), 3, torch.eye(3))
    assert isinstance(network.head, Flawed) and network(torch.rand(2, 1, 32, 32)).logits.shape == (2, 3)


def test_a_head_of_an_installed_package_is_built_saved_and_loaded(tmp_path, installed):
    assert "max" in HEADS.names() and "max" not in HEADS and "max_head" not in sys.modules
    check_head(HEADS["max"])
    folder = write_run(tmp_path / "run", recipe=with_backbone("test_convnext", "max")) / "model"
    assert type(load_model(folder).network.head).__name__ == "MaxHead"


def test_the_help_of_train_names_the_heads_of_installed_packages(installed, capsys):
    assert cli.main(["train", "--help"]) == 0
    assert "Heads of installed packages for --model.head: max." in capsys.readouterr().out
    assert "max_head" not in sys.modules


def test_an_unknown_head_gets_a_suggestion():
    with pytest.raises(RecipeError, match=r"unknown model\.head 'ml_decode'\. Did you mean ml_decoder"):
        HEADS["ml_decode"]
