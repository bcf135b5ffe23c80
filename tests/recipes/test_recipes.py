"""What every recipe promises."""

import dataclasses
import inspect
import shlex
import subprocess
import sys

import pytest
import torch

from trcgl.cli import main as cli
from trcgl.core.generator_recipe import GeneratorRecipe
from trcgl.core.recipe import ModelRecipe, from_json, to_json
from trcgl.model.trcgl_net import TrcglNet
from trcgl.recipes import GENERATORS, RECIPES
from trcgl.training.check_recipe import check
from trcgl.training.losses import LOSSES

FINDINGS = 30
every_recipe = pytest.mark.parametrize("name", RECIPES)


def command(name):
    """The command in the recipe's docstring."""
    lines = [line.strip() for line in inspect.getdoc(RECIPES[name]).splitlines()]
    (found,) = [line for line in lines if line.startswith("trcgl train ")]
    return found


@every_recipe
def test_a_recipe_carries_its_own_name_and_survives_storage(name):
    recipe = RECIPES[name]()
    assert recipe.name == name
    assert from_json(to_json(recipe)) == recipe


@every_recipe
def test_a_recipe_says_on_what_and_how_it_runs(name):
    text = " ".join(RECIPES[name].__doc__.split())
    for word in ("Data:", "Hardware:", "Training time and metrics:"):
        assert word in text


@every_recipe
def test_the_command_in_a_recipe_runs_that_recipe(name, monkeypatch):
    import trcgl.training.train as stage

    asked = []
    monkeypatch.setattr(stage, "train", lambda dataset, recipe, out, synthetic: asked.append(recipe) or {})
    assert cli.main(shlex.split(command(name))[1:]) == 0
    (recipe,) = asked
    stated = RECIPES[name]()
    assert dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, weights=stated.model.weights)) == stated


@every_recipe
def test_the_settings_of_a_recipe_can_be_trained_with(name):
    check(RECIPES[name]())


@every_recipe
def test_the_network_of_a_recipe_can_be_built_and_takes_its_image_size(name):
    recipe = RECIPES[name]().model
    with torch.device("meta"):
        network = TrcglNet(recipe, FINDINGS, torch.eye(FINDINGS), load_weights=False)
        output = network(torch.empty(2, 1, recipe.image_size, recipe.image_size))
    assert output.logits.shape == (2, FINDINGS)
    assert min(output.maps.shape[2:]) >= 4  # smaller maps cannot say where a finding is


@every_recipe
def test_weights_with_terms_of_their_own_are_announced(name):
    recipe = RECIPES[name]
    if recipe().model.weights == "hub":
        assert "CC-BY-NC 4.0" in inspect.getdoc(recipe)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "trcgl_paper"])
def test_findings_are_lateralized_so_only_the_paper_flips(name):
    assert not RECIPES[name]().augment.horizontal_flip


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "trcgl_paper"])
def test_outside_the_paper_gates_are_learned_and_start_where_a_module_has_to_earn_its_place(name):
    recipe = RECIPES[name]().model
    attention = 1.0 if name == "phantom" else 0.0  # on phantoms it earned it on val: docs/results/ablation-phantom.md
    assert recipe.learn_gates
    assert (recipe.reweighting_gate, recipe.attention_gate, recipe.graph_gate) == (0.0, attention, 0.0)


def test_the_paper_is_built_as_published():
    recipe = RECIPES["trcgl_paper"]()
    assert (recipe.model.reweighting_gate, recipe.model.attention_gate, recipe.model.graph_gate) == (0.05, 0.1, 0.05)
    assert not recipe.model.learn_gates
    assert (recipe.model.reduction, recipe.model.label_embedding, recipe.model.graph_threshold) == (16, 256, 0.02)
    assert recipe.model.backbone.startswith("convnextv2_base")
    assert recipe.loss.name == "published_margin"
    assert (recipe.train.backbone_lr, recipe.train.head_lr, recipe.train.ema) == (1.5e-5, 1.5e-4, 0.9999)
    assert (recipe.train.head_warmup_epochs, recipe.train.epochs) == (10, 60)
    assert (recipe.train.row_sampling, recipe.train.repeat_threshold, recipe.train.repeat_cap) == (
        "repeat_factor",
        0.01,
        10,
    )


def test_the_paper_learns_for_a_step_with_a_small_backbone():
    paper = RECIPES["trcgl_paper"]()
    settings: ModelRecipe = dataclasses.replace(paper.model, backbone="convnextv2_atto", weights="none", image_size=64)
    torch.manual_seed(0)
    network = TrcglNet(settings, FINDINGS, torch.eye(FINDINGS)).train()
    loss = LOSSES[paper.loss.name](paper.loss.settings, torch.arange(FINDINGS, dtype=torch.float32) * 10, 500)
    image, target = torch.rand(4, 1, 64, 64), (torch.rand(4, FINDINGS) < 0.2).float()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    before = loss(network(image).logits, target).mean()
    before.backward()
    assert all(weight.grad is not None for weight in network.head.parameters() if weight.requires_grad)
    optimizer.step()
    after = loss(network(image).logits, target).mean()
    assert after < before


def test_reading_recipes_imports_no_network_library():
    code = "import sys, trcgl.recipes; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'polars')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", GENERATORS)
def test_a_recipe_of_a_generator_keeps_the_same_promises(name, monkeypatch):
    import trcgl.generate.train_generator as stage

    recipe, text = GENERATORS[name](), inspect.getdoc(GENERATORS[name])
    assert recipe.name == name
    assert from_json(to_json(recipe), GeneratorRecipe) == recipe
    assert all(word in " ".join(text.split()) for word in ("Data:", "Hardware:", "Training time and results:"))
    stage.check(recipe)
    asked = []
    monkeypatch.setattr(stage, "train_generator", lambda dataset, recipe, out: asked.append(recipe) or {})
    (typed,) = [line.strip() for line in text.splitlines() if line.strip().startswith("trcgl train-generator ")]
    assert cli.main(shlex.split(typed)[1:]) == 0
    assert asked == [recipe]
