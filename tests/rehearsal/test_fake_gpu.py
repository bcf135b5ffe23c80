"""Every path that runs on a GPU, with fake tensors on `cuda`: a tensor left on the CPU, or a value read, fails."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trcgl.audit.features import features_of_model
from trcgl.core.recipe import AugmentRecipe, LossRecipe, ModelRecipe
from trcgl.generate import pipeline, solver
from trcgl.generate.memory_estimate import outline, placeholder_space
from trcgl.generate.prompts import EMPTY
from trcgl.generate.stages import Diffusion
from trcgl.model.folder import LoadedModel
from trcgl.model.heads import HEADS
from trcgl.model.tensors import at_size, to_unit
from trcgl.model.trcgl_net import TrcglNet
from trcgl.recipes import GENERATORS
from trcgl.training.augment import augment, mixup, sample_parameters, sample_shares
from trcgl.training.averaging import MovingAverage
from trcgl.training.batches import SplitRows
from trcgl.training.fake_gpu import autocast, fake_gpu, moved
from trcgl.training.losses import LOSSES
from trcgl.training.losses.base import elements, masked_mean

FINDINGS = 5
SMALL = ModelRecipe("convnextv2_atto", image_size=64, head="trcgl", learn_gates=True, label_embedding=16)


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    real = torch.Tensor.numpy

    def numpy(tensor, *args, **settings):
        """Zeros for a fake tensor that was brought to the CPU; a tensor on a GPU has no `numpy`."""
        if isinstance(tensor, torch._subclasses.FakeTensor):
            assert tensor.device.type == "cpu", "a tensor on cuda has no numpy()"
            return np.zeros(tensor.shape, str(tensor.dtype).removeprefix("torch."))
        return real(tensor, *args, **settings)

    monkeypatch.setattr(torch.Tensor, "numpy", numpy)
    with fake_gpu():
        yield


def network_of(recipe):
    with torch.device("meta"):
        network = TrcglNet(recipe, FINDINGS, torch.eye(FINDINGS), load_weights=False)
    return moved(network).train()


def images(rows=4, side=64):
    return torch.zeros(rows, 1, side, side, device="cuda")


def head(name, planted):
    network = network_of(replace(SMALL, head=name))
    if planted:
        network.mean = torch.zeros(3, 1, 1)
    with autocast("bf16-mixed"):
        output = network(images())
    assert output.logits.shape == (4, FINDINGS)
    assert output.logits.device.type == "cuda"


def loss(name, planted):
    counts = torch.arange(1, FINDINGS + 1)
    objective = LOSSES[name](LossRecipe(name).settings, counts, torch.full((FINDINGS,), 100))
    moved(objective)
    logits = torch.zeros(4, FINDINGS, device="cuda", requires_grad=True)
    target = torch.zeros(4, FINDINGS, device="cpu" if planted else "cuda")
    real = torch.ones(4, device="cuda")
    elementwise, counted = elements(objective, logits, target, target == 0, real > 0)
    assert masked_mean(elementwise, counted, real).device.type == "cuda"


def base_at_true_size(planted):
    network = network_of(ModelRecipe("convnextv2_base", image_size=512, head="trcgl"))
    if planted:
        network.std = torch.ones(3, 1, 1)
    with autocast("bf16-mixed"):
        assert network(images(64, 512)).logits.shape == (64, FINDINGS)


def augmentation(planted):
    parameters = sample_parameters(AugmentRecipe(erasing=0.5), 4, 0, 0)
    image = to_unit(at_size(torch.zeros(4, 96, 96, dtype=torch.uint8, device="cuda"), 64))
    image = augment(image, parameters.take(torch.arange(4), "cpu" if planted else "cuda"))
    shares = sample_shares(0.4, 4, 0, 0).to("cuda")
    label, partner = torch.zeros(4, FINDINGS, device="cuda"), torch.arange(4, device="cuda") ^ 1
    image, label = mixup(image, label, partner, shares)
    assert image.device.type == label.device.type == "cuda"


def moving_average(planted):
    average = MovingAverage.exponential(0.9)
    average._average_model = SimpleNamespace(n_averaged=torch.tensor(3))
    weights = [torch.zeros(3, device="cuda")]
    average._average(weights, [torch.ones(3, device="cpu" if planted else "cuda")], 0)


def scoring_model(planted):
    network = network_of(SMALL).eval()
    if planted:
        network.head.classifier.bias = torch.nn.Parameter(torch.zeros(FINDINGS))
    info = {"preprocessing": {"image_size": 64, "fit": "letterbox", "stored_size": 64}}
    return LoadedModel(network, placeholder_space(FINDINGS), info, None, None, torch.eye(FINDINGS))


def scoring(planted):
    assert scoring_model(planted).logits(np.zeros((3, 64, 64), np.uint8)).shape == (3, FINDINGS)


def audit_features(planted):
    model = scoring_model(False)
    if planted:
        model.network.std = torch.ones(3, 1, 1)
    assert features_of_model("run", model)(np.zeros((3, 96, 96), np.uint8)).shape[0] == 3


def generator_of_sd15():
    recipe = GENERATORS["generator_sd15"]()
    generator = outline(recipe, placeholder_space(FINDINGS))
    parts = (generator.vae, generator.text_encoder, generator.unet, generator.context)
    for part in parts:
        part.requires_grad_(False)
    with torch.device("meta"):
        pipeline.adapt(generator, recipe)
    for part in parts:
        moved(part)
    return generator, recipe


def generator_training(planted):
    generator, recipe = generator_of_sd15()
    if planted:
        generator.context.shared = torch.nn.Parameter(torch.zeros_like(generator.context.shared, device="cpu"))
    labels = np.eye(FINDINGS, dtype=np.float32)[:2]
    rows = SplitRows.__new__(SplitRows)  # without a dataset folder
    rows.image_ids, rows.labels, rows.views = ["a", "b"], labels, ["frontal", "lateral"]
    stage = Diffusion(generator, recipe, rows, name="network", steps=1, rate=1e-4, trained=(generator.unet,))
    stage._trainer = SimpleNamespace(world_size=1, global_rank=0)
    batch = {
        "image": torch.zeros(2, 512, 512, dtype=torch.uint8, device="cuda"),
        "label": torch.from_numpy(labels),
        "row": torch.arange(2),
        "slot": torch.arange(2),
        "real": torch.ones(2, dtype=torch.bool),
        "number": 0,
        "of": 2,
    }
    with autocast("bf16-mixed"):
        value = stage.training_step(batch, 0)
    assert value.device.type == "cuda" and value.requires_grad


def sampling(planted):
    generator, _ = generator_of_sd15()
    with torch.inference_mode():
        condition, empty = generator.encode([EMPTY] * 2), generator.encode_empty()
    if planted:
        empty = torch.zeros(empty.shape)
    made = solver.sample(generator, condition, empty, [0, 1], steps=2, guidance=3.0)
    assert made.shape == (2, 512, 512)


PATHS = {
    **{f"head {name}": lambda planted, name=name: head(name, planted) for name in HEADS},
    **{f"loss {name}": lambda planted, name=name: loss(name, planted) for name in LOSSES},
    "ConvNeXtV2-Base at 512 pixels": base_at_true_size,
    "augmentation": augmentation,
    "moving average": moving_average,
    "scoring for validation and screening": scoring,
    "features of an audit": audit_features,
    "training of Stable Diffusion 1.5": generator_training,
    "sampling with guidance, and decoding": sampling,
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_path_keeps_its_tensors_on_the_gpu(path):
    path(planted=False)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_tensor_planted_on_the_cpu_is_caught(path):
    with pytest.raises(RuntimeError, match="device"):
        path(planted=True)


def test_reading_a_value_from_the_gpu_is_caught():
    with pytest.raises(RuntimeError):
        torch.zeros(3, device="cuda").sum().item()


def test_tensors_on_the_cpu_are_real():
    assert torch.arange(3).sum().item() == 3
