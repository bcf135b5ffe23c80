import dataclasses

import pytest
import torch

from tests.dataset.small_dataset import SPACE, small_recipe, write_dataset
from tests.training.losses.build import build_loss
from trcgl.model.folder import load_model
from trcgl.model.heads.experts import averaged, own_findings
from trcgl.training.classifier import Classifier
from trcgl.training.train import train

RECIPE = small_recipe(epochs=1, ema=0.0)
RECIPE = dataclasses.replace(RECIPE, model=dataclasses.replace(RECIPE.model, head="experts"))


def test_the_probabilities_of_experts_are_averaged():
    logits = torch.randn(3, 4, 5)
    torch.testing.assert_close(torch.sigmoid(averaged(logits)), torch.sigmoid(logits).mean(0))
    assert torch.equal(averaged(torch.full((3, 1, 1), 200.0)), torch.full((1, 1), 200.0))


def test_an_expert_is_for_the_findings_of_its_group():
    # Mass and Normal are head, Edema medium, Hernia tail
    assert own_findings(SPACE).int().tolist() == [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]]


def test_experts_are_trained_on_all_findings_and_on_their_own(tmp_path, monkeypatch):
    """The loss of the first batch, computed here from the network's outputs."""
    step, seen = Classifier.training_step, []

    def training_step(self, batch, batch_idx):
        if batch["number"] == 0:
            self.network.head.register_forward_hook(lambda module, given, output: seen.append(output.experts.detach()))
        loss = step(self, batch, batch_idx)
        if batch["number"] == 0:
            seen.extend([batch["label"], loss.detach()])
        return loss

    monkeypatch.setattr(Classifier, "training_step", training_step)
    train(write_dataset(tmp_path / "data"), RECIPE, tmp_path / "run")
    experts, label, loss = seen[:3]
    own, wanted = own_findings(SPACE), 0.0
    for logits, among in zip(experts, own, strict=True):
        value = build_loss("bce", torch.ones(4), 44)(logits, label.nan_to_num(0))
        known = ~label.isnan()
        wanted += (value[known].mean() + value[known & among].mean()) / 6
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_run_of_experts_scores_with_their_average(tmp_path):
    train(write_dataset(tmp_path / "data"), RECIPE, tmp_path / "run")
    network = load_model(tmp_path / "run" / "model").network
    output = network(torch.rand(2, 1, 32, 32))
    torch.testing.assert_close(output.logits, averaged(output.experts))
    assert not torch.allclose(output.experts[0], output.experts[1])
