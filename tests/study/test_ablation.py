import dataclasses
import itertools

import numpy as np
import pytest
import torch

from tests.dataset.small_dataset import write_dataset
from trcgl.core.errors import RecipeError
from trcgl.core.recipe import LossRecipe, ModelRecipe, Recipe, TrainRecipe, overridden
from trcgl.dataset.store import open_dataset
from trcgl.model.trcgl_net import TrcglNet
from trcgl.study.ablation import MODULES, ablation, edges
from trcgl.study.arms import PLAIN

FULL = Recipe(
    model=ModelRecipe(head="trcgl", graph_threshold=0.3),
    loss=LossRecipe(name="asl"),
    train=TrainRecipe(row_sampling="repeat_factor"),
)


def recipes(base, synthetic):
    arms, contrasts = ablation(base, synthetic=synthetic)
    return {arm.name: (arm.recipe(base, 0), arm.synthetic) for arm in arms}, contrasts


def test_the_ladder_adds_one_part_after_the_other():
    made, _ = recipes(FULL, synthetic=True)
    rungs = ["plain", "up_to_row_sampling", "up_to_loss", "up_to_attention", "up_to_graph", "up_to_reweighting", "full"]
    assert list(made)[: len(rungs)] == rungs
    assert made["full"] == (FULL, "synthetic") and made["up_to_reweighting"] == (FULL, "")
    plain = made["plain"][0]
    assert (plain.loss.name, plain.train.row_sampling, plain.model.switched_off) == ("bce", "natural", MODULES)
    assert made["up_to_attention"][0].model.switched_off == ("graph", "reweighting")


def test_no_rung_is_the_rung_below_again():
    """A module that does not reach the logits on its rung would add nothing but another seed."""
    gates = dict.fromkeys(("model.reweighting_gate", "model.attention_gate", "model.graph_gate"), 0.5)
    small = {"model.backbone": "resnet10t", "model.weights": "none", "model.image_size": 32}
    base = overridden(FULL, {**gates, **small, "loss.name": "bce", "train.row_sampling": "natural"})
    image, logits = torch.rand(2, 1, 32, 32), []
    for arm in ablation(base, synthetic=False)[0][: 1 + len(MODULES)]:
        torch.manual_seed(0)
        network = TrcglNet(arm.recipe(base, 0).model, 4, torch.full((4, 4), 0.5)).eval()
        with torch.no_grad():
            logits.append(network(image).logits)
    assert all((first - second).abs().max() > 1e-6 for first, second in itertools.pairwise(logits))


def test_each_part_is_left_out_in_turn_and_nothing_is_trained_twice():
    made, contrasts = recipes(FULL, synthetic=True)
    assert "without_synthetic" not in made  # the last rung but one
    assert made["without_loss"] == (dataclasses.replace(FULL, loss=LossRecipe(name="bce")), "synthetic")
    assert made["without_attention"][0].model.switched_off == ("attention",)
    assert len({(repr(recipe), synthetic) for recipe, synthetic in made.values()}) == len(made)
    pairs = [frozenset((contrast.arm, contrast.against)) for contrast in contrasts]
    assert len(set(pairs)) == len(pairs) and all(len(pair) == 2 for pair in pairs)
    assert (contrasts[0].arm, contrasts[0].against) == ("full", "plain")


def test_a_part_that_the_recipe_lacks_is_no_rung():
    made, _ = recipes(overridden(FULL, {"loss.name": "bce", "train.row_sampling": "natural"}), synthetic=False)
    assert not [name for name in made if "loss" in name or "row_sampling" in name or "synthetic" in name]
    with pytest.raises(RecipeError, match="nothing to take apart"):
        ablation(overridden(FULL, dict(PLAIN)), synthetic=False)


def test_the_graph_is_swept_and_replaced_by_no_graph_and_by_a_learned_graph(tmp_path):
    opened = open_dataset(write_dataset(tmp_path / "data"))
    arms, _ = ablation(FULL, synthetic=False)
    graphs = edges(opened, FULL, arms)
    assert [graph["name"] for graph in graphs] == ["0.3 (full)", "0.02", "0.1", "0.2", "0.4", "identity", "learned"]
    assert {graph["pairs"] for graph in graphs} == {6}
    joined = [graph["edges"] for graph in graphs]
    assert joined[-2:] == [0, 6]
    assert joined[1] > 0 and np.all(np.diff(joined[1:-1]) <= 0)
    made, _ = recipes(FULL, synthetic=False)
    assert made["graph_identity"][0] == overridden(FULL, {"model.graph": "identity"})
    assert made["graph_learned"][0] == overridden(FULL, {"model.graph": "learned"})


@pytest.mark.parametrize(("kind", "swept"), [("learned", "symmetric"), ("identity", "symmetric"), ("ml_gcn", "ml_gcn")])
def test_the_sweep_is_over_counted_graphs_whatever_the_recipe_has(tmp_path, kind, swept):
    base = overridden(FULL, {"model.graph": kind})
    made, _ = recipes(base, synthetic=False)
    assert made["graph_0.02"][0].model.graph == swept
    assert f"graph_{kind}" not in made  # it is the full recipe
    opened = open_dataset(write_dataset(tmp_path / "data"))
    full = edges(opened, base, ablation(base, synthetic=False)[0])[0]
    name = {"ml_gcn": "0.3", "identity": "identity", "learned": "learned"}[kind]
    assert full["name"] == f"{name} (full)"
    assert full["edges"] == {"identity": 0, "learned": 6}.get(kind, full["edges"])
