import math

import lightning.pytorch as lightning
import pytest
import torch
from torch.utils.data import DataLoader

from tests.dataset.small_dataset import SPACE, small_recipe, write_dataset
from trcgl.core.errors import RecipeError
from trcgl.core.recipe import Recipe, differences, overridden
from trcgl.dataset.store import open_dataset
from trcgl.model.heads import HEADS
from trcgl.model.trcgl_net import TrcglNet
from trcgl.recipes import RECIPES
from trcgl.study.arms import PLAIN, choose_arms, over_base
from trcgl.study.peers import PEERS
from trcgl.study.plan import against_baseline
from trcgl.training.batches import SplitRows
from trcgl.training.check_recipe import check
from trcgl.training.classifier import Classifier
from trcgl.training.losses import LOSSES
from trcgl.training.trainer import quiet

SHARED = (
    "augment.rotation",
    "augment.translation",
    "train.epochs",
    "train.batch_size",
    "train.patience",
    "model.image_size",
)
BASE = RECIPES["phantom"]()
TEXT = {"model.label_text": "a folder"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows whose labels give a loss its counts."""
    opened = open_dataset(write_dataset(tmp_path_factory.mktemp("rows") / "data"))
    return SplitRows((opened, opened.split("train")))


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_a_recipe_over_the_same_data_steps_augmentation_and_selection(name):
    arm = PEERS[name]
    made = arm.recipe(BASE, seed=2)
    check(made)
    assert arm.name == name and made.seed == BASE.seed + 2
    changed = [change.split(":")[0] for change in differences(BASE, made)]
    assert not set(changed) & set(SHARED)
    assert arm.reference or name in ("linear", "random_labels")


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*have no `val_dataloader`")
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_learns_from_a_batch(name, rows):
    """A step on four images, of which some labels are unknown."""
    base = overridden(small_recipe(epochs=2, ema=0.0), {"model.image_size": 64, "model.label_embedding": 16})
    recipe, findings = PEERS[name].recipe(base, 0), len(SPACE.findings)
    torch.manual_seed(0)
    network = TrcglNet(recipe.model, findings, torch.eye(findings), load_weights=False)
    classifier = Classifier(network, recipe, SPACE, rows, rows, steps=2, image_ids=list("abcd"))
    before = {key: weight.detach().clone() for key, weight in network.named_parameters() if weight.requires_grad}
    batch = {
        "image": torch.rand(4, 1, 64, 64),
        "label": torch.tensor([[1, 0, 0, 0], [0, 1, math.nan, 0], [math.nan, 0, 1, 0], [0, 0, 0, 1]]),
        "real": torch.ones(4, dtype=torch.bool),
        "row": torch.arange(4),
        "number": 0,
    }
    with quiet():
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(classifier, DataLoader([batch], batch_size=None))
    now = dict(network.named_parameters())
    moved = {key for key, weight in before.items() if not torch.equal(weight, now[key])}
    assert any("backbone" in key for key in moved) and any("head" in key for key in moved)


def test_every_head_and_every_loss_is_a_peer():
    made = [arm.recipe(BASE, 0) for arm in PEERS.values()]
    assert {recipe.model.head for recipe in made} == set(HEADS) and {recipe.loss.name for recipe in made} == set(LOSSES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("csra", {"model.head", "model.attention_gate", "model.learn_gates"}),
        ("ml_decoder", {"model.head", "model.learn_embeddings", "train.head_lr"}),
        ("query2label", {"model.head", "train.head_lr"}),
        ("clarity", {"model.head", "train.head_lr"}),
        ("ml_gcn", {"model.head", "model.graph", "model.graph_threshold"}),
        ("chexgcn", {"model.head"}),
        ("dualattnet", {"model.head"}),
        ("experts", {"model.head"}),
        ("ldam", {"loss.name", "loss.settings.max_margin"}),
        ("effective_number", {"loss.name"}),
        ("distribution_balanced", {"loss.name", "train.row_sampling"}),
        ("logit_adjusted", {"loss.name"}),
        ("entropy_maximization", {"loss.name"}),
        ("retrained", {"train.retrain_epochs", "train.frozen_mode"}),
        ("mixup", {"augment.mixup"}),
    ],
)
def test_a_head_a_loss_or_a_remedy_differs_from_linear_in_nothing_else(name, expected):
    linear, made = (PEERS[arm].recipe(BASE, 0) for arm in ("linear", name))
    assert {change.split(":")[0] for change in differences(linear, made)} == expected


def test_a_gentle_rate_is_a_cap():
    slow = overridden(BASE, {"train.head_lr": 1e-5})
    assert PEERS["query2label"].recipe(slow, 0).train.head_lr == 1e-5


def test_ml_gcn_keeps_vectors_of_text_and_learns_random_ones():
    assert PEERS["ml_gcn"].recipe(BASE, 0).model.learn_embeddings
    assert not PEERS["ml_gcn"].recipe(overridden(BASE, TEXT), 0).model.learn_embeddings


def test_an_arm_that_lacks_something_says_what_to_give_and_is_left_out_of_all():
    short = overridden(BASE, {"train.epochs": 1})
    with pytest.raises(RecipeError, match=r"random_labels needs .* transformers text model as --model.label-text"):
        choose_arms(("random_labels",), PEERS, BASE, synthetic=False)
    with pytest.raises(RecipeError, match=r"retrained needs .* --train.epochs of 2 or more"):
        choose_arms(("retrained",), PEERS, short, synthetic=False)
    for base, left_out in (
        (BASE, {"random_labels"}),
        (short, {"random_labels", "retrained"}),
        (overridden(BASE, TEXT), set()),
    ):
        assert set(PEERS) - {arm.name for arm in choose_arms((), PEERS, base, synthetic=True)} == left_out
    check(PEERS["retrained"].recipe(overridden(BASE, {"train.epochs": 2}), 0))


def test_a_backbone_is_not_compared_from_scratch_with_one_that_has_weights_of_its_own():
    base = overridden(Recipe(), {"model.weights": "imagenet.safetensors"})
    assert PEERS["asl"].recipe(base, 0).model.weights == "imagenet.safetensors"
    with pytest.raises(RecipeError, match="resnet50 has the backbone resnet50, but model.weights is a file for"):
        PEERS["resnet50"].recipe(base, 0)
    assert PEERS["resnet50"].recipe(overridden(base, {"model.weights": "hub"}), 0).model.weights == "hub"


def test_peers_are_chosen_by_name_and_some_need_synthetic_images():
    assert [arm.name for arm in choose_arms(("asl", "linear"), PEERS, BASE, synthetic=False)] == ["asl", "linear"]
    everything = choose_arms((), PEERS, BASE, synthetic=True)
    assert [arm.name for arm in everything] == [name for name in PEERS if name != "random_labels"]
    assert choose_arms((), PEERS, BASE, synthetic=False) == tuple(arm for arm in everything if not arm.synthetic)
    with pytest.raises(RecipeError, match="--synthetic"):
        choose_arms(("synthetic",), PEERS, BASE, synthetic=False)
    with pytest.raises(RecipeError, match="more than once"):
        choose_arms(("asl", "asl"), PEERS, BASE, synthetic=False)


def test_the_primary_contrast_comes_first_and_is_against_the_baseline():
    arms = choose_arms(("trcgl", "asl", "linear"), PEERS, BASE, synthetic=False)
    contrasts = against_baseline(arms, "trcgl", None)
    assert [(contrast.arm, contrast.against) for contrast in contrasts] == [("linear", "trcgl"), ("asl", "trcgl")]
    assert against_baseline(arms, "linear", "asl")[0].arm == "asl"
    for baseline, primary, why in (("focal", None, "--baseline focal"), ("asl", "focal", "--primary focal")):
        with pytest.raises(RecipeError, match=why):
            against_baseline(arms, baseline, primary)
    with pytest.raises(RecipeError, match="two arms or more"):
        against_baseline(arms[:1], "trcgl", None)


def test_without_names_backbones_that_cannot_start_alike_are_left_out():
    base = overridden(RECIPES["nih_mini"](), {"model.weights": "imagenet.safetensors"})
    names = [arm.name for arm in choose_arms((), PEERS, base, synthetic=False)]
    assert "csra" in names and "resnet50" not in names
    with pytest.raises(RecipeError, match="resnet50 needs .* --model.weights hub or none"):
        choose_arms(("trcgl", "resnet50"), PEERS, base, synthetic=False)


def test_no_two_arms_train_the_same():
    base = overridden(Recipe(), {"augment.mixup": 0.4})
    assert "mixup" not in [arm.name for arm in choose_arms((), PEERS, base, synthetic=False)]
    with pytest.raises(RecipeError, match="mixup would repeat the runs of linear"):
        choose_arms(("trcgl", "linear", "mixup"), PEERS, base, synthetic=False)


def test_over_base_keeps_loss_and_sampler_for_networks_and_leaves_the_others_alone():
    base = overridden(BASE, {"loss.name": "asl", "train.row_sampling": "repeat_factor"})
    for name in ("linear", "csra", "resnet50"):
        made = over_base(PEERS[name]).recipe(base, 0)
        assert (made.loss.name, made.train.row_sampling) == ("asl", "repeat_factor")
        assert made.model == PEERS[name].recipe(base, 0).model
    for name in ("focal", "class_balanced", "distribution_balanced", "trcgl"):
        assert over_base(PEERS[name]).recipe(base, 0) == PEERS[name].recipe(base, 0)
    assert PEERS["linear"].recipe(base, 0).loss.name == PLAIN["loss.name"]
