"""The second stage of a run retrains the head alone; losses that change their course do so at the same step again."""

import dataclasses

import pytest
import torch

from tests.dataset.small_dataset import small_recipe, write_dataset
from tests.training.test_resume import same, stop_at
from trcgl.core.errors import Interrupted, RecipeError
from trcgl.core.loss_settings import LdamSettings
from trcgl.core.recipe import LossRecipe
from trcgl.dataset.store import open_dataset
from trcgl.model.folder import load_model
from trcgl.training.batches import RadiographData
from trcgl.training.check_recipe import check
from trcgl.training.classifier import Classifier
from trcgl.training.sampling import class_aware
from trcgl.training.train import train

# Three epochs of six batches and three optimizer steps; the last one retrains. LDAM re-weighs from step 5 on.
RECIPE = dataclasses.replace(
    small_recipe(accumulate=2, save_steps=2, retrain_epochs=1),
    loss=LossRecipe("ldam", settings=LdamSettings(defer=0.5, beta=0.9)),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small")


@pytest.fixture(scope="module")
def seen(dataset, tmp_path_factory):
    """What a run looked like between its stages, and what it was shown."""
    seen = {"out": tmp_path_factory.mktemp("whole") / "run", "rows": {}, "rates": {}, "weighed": []}
    patch = pytest.MonkeyPatch()
    watch(patch, seen)
    train(dataset, RECIPE, seen["out"])
    patch.undo()
    return seen


def watch(patch, seen):
    restart, step = Classifier.restart_head, Classifier.training_step

    def restart_head(self):
        seen["ended with"] = {name: value.clone() for name, value in self.network.state_dict().items()}
        restart(self)
        seen["began with"] = {name: value.clone() for name, value in self.network.state_dict().items()}
        state = self.trainer.optimizers[0].state
        seen["remembered"] = [parameter for parameter in self.network.head.parameters() if parameter in state]

    def training_step(self, batch, batch_idx):
        loss = step(self, batch, batch_idx)
        seen["rows"].setdefault(self.current_epoch, []).extend(batch["row"].tolist())
        seen["rates"][batch["number"]] = self.trainer.optimizers[0].param_groups[-1]["lr"]
        seen["weighed"] += [batch["number"]] if self.loss.progress >= self.loss.settings.defer else []
        return loss

    patch.setattr(Classifier, "restart_head", restart_head)
    patch.setattr(Classifier, "training_step", training_step)


def backbone_of(state):
    return {name: value for name, value in state.items() if not name.startswith("head.")}


def test_the_backbone_is_the_averaged_one_of_the_first_stage_and_stays_it(seen):
    after = load_model(seen["out"] / "model").network.state_dict()
    for name, value in backbone_of(seen["ended with"]).items():
        assert torch.equal(value, after[name]), name
    last = torch.load(seen["out"] / "checkpoints" / "last.ckpt", weights_only=True)["current_model_state"]
    for name, value in backbone_of(seen["ended with"]).items():
        assert torch.equal(value, last["network." + name]), name


def test_the_head_begins_anew_and_learns(seen):
    weight = "head.classifier.weight"
    assert not torch.equal(seen["ended with"][weight], seen["began with"][weight])
    assert seen["began with"]["head.classifier.bias"].abs().max() == 0  # as built
    assert seen["remembered"] == []
    after = load_model(seen["out"] / "model").network.state_dict()
    assert not torch.equal(seen["began with"][weight], after[weight])


def test_the_learning_rate_begins_anew(seen):
    # three steps of two batches in the second stage: one of warm-up, then half a cosine
    assert [seen["rates"][batch] for batch in (12, 14, 16)] == pytest.approx([3e-3, 3e-3, 1.5e-3])
    assert seen["rates"][10] < 0.5 * 3e-3


def test_the_second_stage_samples_findings_equally_often(dataset, seen):
    labels = RadiographData(open_dataset(dataset), RECIPE).train_rows.labels
    assert seen["rows"][2] == class_aware(labels, RECIPE.seed, 2).tolist()
    assert sorted(seen["rows"][1]) == list(range(len(labels)))


def test_the_best_epoch_is_one_that_retrained(seen):
    best = torch.load(seen["out"] / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == 2


def test_ldam_begins_to_weigh_at_its_share_of_the_steps(seen):
    assert seen["weighed"] == list(range(10, 18))  # step 5 of 9 is the first past one half; it has batches 10 and 11


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(8, id="before the loss changes its course"),
        pytest.param(11, id="between the stages"),
        pytest.param(13, id="with the first step of the second stage"),
    ],
)
def test_a_stopped_run_ends_with_the_same_weights(dataset, seen, tmp_path, monkeypatch, batch):
    stop_at(monkeypatch, batch)
    with pytest.raises(Interrupted):
        train(dataset, RECIPE, tmp_path / "run")
    monkeypatch.undo()
    again = {"rows": {}, "rates": {}, "weighed": []}
    watch(monkeypatch, again)
    train(dataset, RECIPE, tmp_path / "run")
    assert same(seen["out"], tmp_path / "run")
    assert set(again["weighed"]) == {number for number in seen["weighed"] if number > batch}
    assert ("began with" in again) == (batch < 12)


def test_without_an_average_the_backbone_of_the_last_step_is_kept(dataset, tmp_path, monkeypatch):
    seen = {"rows": {}, "rates": {}, "weighed": []}
    watch(monkeypatch, seen)
    recipe = dataclasses.replace(RECIPE, train=dataclasses.replace(RECIPE.train, ema=0.0, epochs=2))
    train(dataset, recipe, tmp_path / "run")
    after = load_model(tmp_path / "run" / "model").network.state_dict()
    for name, value in backbone_of(seen["ended with"]).items():
        assert torch.equal(value, after[name]), name


@pytest.mark.parametrize("settings", [{"retrain_epochs": 3}, {"retrain_epochs": 2, "head_warmup_epochs": 2}])
def test_retraining_leaves_an_epoch_to_train_in(settings):
    with pytest.raises(RecipeError, match=r"train\.retrain_epochs"):
        check(small_recipe(**settings))
