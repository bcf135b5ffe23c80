"""The warm-up of the head as a stage of its own: optimizer, learning rate, weight decay, average and best epoch."""

import dataclasses

import pytest
import torch

from tests.dataset.small_dataset import small_recipe, write_dataset
from tests.training.test_resume import same, stop_at
from trcgl.core.errors import Interrupted, RecipeError
from trcgl.model.trcgl_net import TrcglNet
from trcgl.training.averaging import exponential_share
from trcgl.training.check_recipe import check
from trcgl.training.classifier import Classifier
from trcgl.training.optimizer import build_optimizer
from trcgl.training.train import train

STEPS = 6  # of an epoch
SETTINGS = {
    "epochs": 4,
    "head_warmup_epochs": 1,
    "head_warmup_lr": 2e-3,
    "head_warmup_decay": 0.01,
    "weight_decay": 0.05,
    "backbone_decay": 0.02,
    "decay_all": True,
    "adam_eps": 1e-5,
    "frozen_mode": "train",
    "schedule": "epoch",
    "warmup_epochs": 1,
    "lr_floor": 0.1,
    "ema_warmup": False,
}


def recipe_with(**settings):
    recipe = small_recipe(**{**SETTINGS, **settings})
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, head_norm="batch"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small")


@pytest.fixture(scope="module")
def seen(dataset, tmp_path_factory):
    """Learning rate, weight decay, Adam's step and the backbone's mode at each step of a run."""
    seen = {"out": tmp_path_factory.mktemp("whole") / "run", "steps": [], "weights": []}
    patch, step = pytest.MonkeyPatch(), Classifier.training_step

    def training_step(self, batch, batch_idx):
        optimizer = self.trainer.optimizers[0]
        groups = {group["name"]: group for group in optimizer.param_groups}
        state = optimizer.state.get(self.network.head.classifier.weight, {})
        seen["steps"].append(
            (
                groups["head, decayed"]["lr"],
                groups["head, decayed"]["weight_decay"],
                int(state.get("step", 0)),
                self.network.backbone.training,
            )
        )
        seen["weights"].append(self.network.head.classifier.weight.detach().clone())
        return step(self, batch, batch_idx)

    patch.setattr(Classifier, "training_step", training_step)
    train(dataset, recipe_with(), seen["out"])
    patch.undo()
    return seen


def test_the_warmup_has_a_constant_rate_and_a_weight_decay_of_its_own(seen):
    assert [step[:2] for step in seen["steps"][:STEPS]] == [(pytest.approx(2e-3), 0.01)] * STEPS


def test_the_later_epochs_have_a_schedule_that_changes_after_every_epoch(seen):
    of_epochs = [seen["steps"][start : start + STEPS] for start in (STEPS, 2 * STEPS, 3 * STEPS)]
    for rate, steps in zip((3e-3, 3e-3, 1.5e-3), of_epochs, strict=True):
        assert [step[:2] for step in steps] == [(pytest.approx(rate), 0.05)] * STEPS


def test_the_optimizer_starts_anew_after_the_warmup(seen):
    assert [step[2] for step in seen["steps"]] == [*range(STEPS), *range(3 * STEPS)]


def test_a_frozen_backbone_can_stay_in_training_mode(seen):
    assert all(step[3] for step in seen["steps"])


def test_the_average_starts_after_the_warmup(seen):
    """With a decay of 0.99, the average of the last epoch is near the weights at the end of the warm-up."""
    best = torch.load(seen["out"] / "checkpoints" / "last.ckpt", weights_only=True)
    name, average = "network.head.classifier.weight", seen["weights"][STEPS]
    for weight in [*seen["weights"][STEPS + 1 :], best["current_model_state"][name]]:
        average = torch.lerp(average, weight, 0.01)
    torch.testing.assert_close(best["state_dict"][name], average)


def test_an_epoch_of_the_warmup_is_never_the_best(dataset, tmp_path, monkeypatch):
    scores = iter([0.9, 0.5, 0.4, 0.3])
    monkeypatch.setattr("trcgl.training.classifier.validation_metrics", lambda *_: {"val/mAP": next(scores)})
    assert train(dataset, recipe_with(), tmp_path / "run")["best"]["epoch"] == 2


@pytest.mark.parametrize("step", [4, STEPS, STEPS + 2])
def test_a_stopped_run_ends_with_the_same_weights(dataset, seen, tmp_path, monkeypatch, step):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_at(patch, step)
        train(dataset, recipe_with(), tmp_path / "run")
    train(dataset, recipe_with(), tmp_path / "run")
    assert same(tmp_path / "run", seen["out"])


def test_every_parameter_decays_only_where_asked():
    for decay_all in (False, True):
        recipe = recipe_with(decay_all=decay_all, head_warmup_decay=None)
        groups = build_optimizer(TrcglNet(recipe.model, 4, torch.eye(4)), recipe.train).param_groups
        decays = {group["name"]: group["weight_decay"] for group in groups}
        kept = {} if decay_all else {"backbone, kept": 0.0, "head, kept": 0.0}
        assert decays == {"backbone, decayed": 0.02, "head, decayed": 0.05} | kept
        assert {group["eps"] for group in groups} == {1e-5}


def test_shares_of_the_exponential_average():
    assert [exponential_share(updates, 0.9, 2, warmup=False) for updates in range(4)] == [
        1,
        1,
        *[pytest.approx(0.1)] * 2,
    ]
    assert exponential_share(3, 0.9) == pytest.approx(1 - 4 / 13)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"head_warmup_lr": 0.0}, "train.head_warmup_lr is 0.0"),
        ({"head_warmup_epochs": 4}, "below train.epochs where train.head_warmup_lr is set"),
        ({"adam_eps": 0.0}, "train.adam_eps"),
        ({"lr_floor": 1.5}, "train.lr_floor"),
    ],
)
def test_contradicting_settings_are_refused(settings, named):
    with pytest.raises(RecipeError, match=named):
        check(recipe_with(**settings))
