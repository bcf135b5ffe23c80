import pytest

from trcgl.core.errors import RecipeError
from trcgl.core.recipe import Recipe, differences, overridden
from trcgl.model.train import check
from trcgl.recipes import RECIPES
from trcgl.study.arms import PEERS, chosen
from trcgl.study.plan import against_baseline

SHARED = (
    "augment.rotation",
    "augment.translation",
    "train.epochs",
    "train.batch_size",
    "train.patience",
    "model.image_size",
)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_a_recipe_over_the_same_data_steps_augmentation_and_selection(name):
    base = RECIPES["phantom"]()
    arm = PEERS[name]
    made = arm.recipe(base, seed=2)
    check(made)
    assert arm.name == name and made.seed == base.seed + 2
    changed = [one.split(":")[0] for one in differences(base, made)]
    assert not set(changed) & set(SHARED)
    assert arm.reference or name == "linear"


def test_a_backbone_is_not_compared_from_scratch_with_one_that_has_weights_of_its_own():
    base = overridden(Recipe(), {"model.weights": "imagenet.safetensors"})
    assert PEERS["asl"].recipe(base, 0).model.weights == "imagenet.safetensors"
    with pytest.raises(RecipeError, match="resnet50 has the backbone resnet50, but model.weights is a file for"):
        PEERS["resnet50"].recipe(base, 0)
    assert PEERS["resnet50"].recipe(overridden(base, {"model.weights": "hub"}), 0).model.weights == "hub"


def test_peers_are_chosen_by_name_and_drawn_ones_need_drawn_images():
    assert [one.name for one in chosen(("asl", "linear"), PEERS, drawn=False)] == ["asl", "linear"]
    everything = chosen((), PEERS, drawn=True)
    assert [one.name for one in everything] == list(PEERS)
    assert len(chosen((), PEERS, drawn=False)) == len(PEERS) - sum(bool(one.drawn) for one in everything)
    with pytest.raises(RecipeError, match="--synthetic"):
        chosen(("drawn",), PEERS, drawn=False)
    with pytest.raises(RecipeError, match="more than once"):
        chosen(("asl", "asl"), PEERS, drawn=False)


def test_the_primary_contrast_comes_first_and_is_against_the_baseline():
    arms = chosen(("trcgl", "asl", "linear"), PEERS, drawn=False)
    told = against_baseline(arms, "trcgl", None)
    assert [(one.arm, one.against) for one in told] == [("linear", "trcgl"), ("asl", "trcgl")]
    assert against_baseline(arms, "linear", "asl")[0].arm == "asl"
    for baseline, primary, why in (("focal", None, "--baseline focal"), ("asl", "focal", "--primary focal")):
        with pytest.raises(RecipeError, match=why):
            against_baseline(arms, baseline, primary)
    with pytest.raises(RecipeError, match="two arms or more"):
        against_baseline(arms[:1], "trcgl", None)
