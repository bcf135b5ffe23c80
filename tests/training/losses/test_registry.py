"""Every loss of the registry keeps the contract; losses of users and of installed packages are found by name."""

import ast
import dataclasses
import inspect
import itertools
import json
import sys
from pathlib import Path

import pytest
import torch

from tests.dataset.small_dataset import small_recipe, write_dataset
from trcgl.core.errors import RecipeError
from trcgl.core.loss_settings import SETTINGS, LossSettings
from trcgl.core.recipe import LossRecipe, from_json, to_json
from trcgl.model.folder import load_model
from trcgl.training.losses import LOSSES, register_loss
from trcgl.training.train import train

DOCS = Path(__file__).resolve().parents[3] / "docs"


@dataclasses.dataclass(frozen=True)
class SquaredSettings(LossSettings):
    factor: float = 1.0
    """Factor of the loss."""


class SquaredError(LOSSES["bce"]):
    Settings = SquaredSettings

    def __init__(self, settings, positives, rows):
        super().__init__(settings, positives, rows)
        self.factor = settings.factor

    def forward(self, logits, target):
        return self.factor * (logits.float().sigmoid() - target) ** 2


@pytest.fixture
def registered():
    """Forget afterwards what a test registers."""
    losses, settings = dict(LOSSES), dict(SETTINGS)
    yield
    for registry, before in ((LOSSES, losses), (SETTINGS, settings)):
        registry.clear()
        registry.update(before)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_has_settings_with_defaults_and_help_and_a_line_of_documentation(name):
    kind = LOSSES[name].Settings
    assert SETTINGS[name] is kind and type(LossRecipe(name).settings) is kind
    documented = set()
    for base in kind.__mro__[:-1]:
        body = ast.parse(inspect.getsource(base)).body[0].body
        documented |= {
            field.target.id
            for field, text in itertools.pairwise(body)
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
        }
    assert documented == {field.name for field in dataclasses.fields(kind)}
    assert f"| `{name}` |" in (DOCS / "model.md").read_text()


def test_every_loss_is_listed_in_the_help():
    import trcgl.core.recipe as module

    text = inspect.getsource(module.LossRecipe)
    assert all(f"`{name}`" in text for name in LOSSES)


def test_a_registered_loss_is_trained_with_and_its_run_is_read_without_it(registered, tmp_path):
    register_loss("squared", SquaredError)
    loss = LossRecipe("squared", settings=SquaredSettings(factor=2.0))
    recipe = dataclasses.replace(small_recipe(epochs=1), loss=loss)
    train(write_dataset(tmp_path / "data"), recipe, tmp_path / "run")
    assert from_json((tmp_path / "run" / "recipe.json").read_text()) == recipe
    LOSSES.pop("squared"), SETTINGS.pop("squared")
    assert load_model(tmp_path / "run" / "model").image_size == recipe.model.image_size
    stored = from_json((tmp_path / "run" / "recipe.json").read_text())
    assert json.loads(to_json(stored)) == json.loads((tmp_path / "run" / "recipe.json").read_text())
    with pytest.raises(RecipeError, match=r"unknown loss\.name 'squared'"):
        train(tmp_path / "data", stored, tmp_path / "other")


def test_a_built_in_loss_is_not_replaced():
    with pytest.raises(RecipeError, match=r"loss\.name 'bce' is built in"):
        register_loss("bce", SquaredError)


def test_the_loss_of_an_installed_package_is_found_by_its_entry_point(registered, tmp_path, monkeypatch):
    info = tmp_path / "squared_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: squared-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[trcgl.losses]\nsquared = squared_package:Squared\n")
    (tmp_path / "squared_package.py").write_text(
        "from trcgl.training.losses.cross_entropy import BinaryCrossEntropy\n"
        "class Squared(BinaryCrossEntropy):\n"
        "    def forward(self, logits, target):\n"
        "        return (logits.float().sigmoid() - target) ** 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert "squared_package" not in sys.modules and "squared" in LOSSES.names()
    recipe = LossRecipe("squared")
    loss = LOSSES["squared"](recipe.settings, torch.ones(2), 4)
    assert loss(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])).tolist() == [[0.25, 0.25]]
    del sys.modules["squared_package"]
