"""The memory estimate against what autograd really saves on the CPU."""

from dataclasses import replace

import pytest
import torch

from trcgl.core.recipe import LossRecipe, ModelRecipe, Recipe, TrainRecipe, overridden
from trcgl.model.backbone import checkpoint_gradients
from trcgl.model.trcgl_net import TrcglNet
from trcgl.recipes import RECIPES
from trcgl.training.losses import LOSSES
from trcgl.training.losses.base import elements, masked_mean
from trcgl.training.memory_estimate import count_saved, training_memory

FINDINGS = 5
SMALL = {
    "a ConvNeXt with the head of TRCGL-Net": ModelRecipe("convnextv2_atto", image_size=64, head="trcgl"),
    "a ResNet with CSRA": ModelRecipe("resnet10t", image_size=64, head="csra"),
    "a vision transformer with Query2Label": ModelRecipe("vit_tiny_patch16_224", image_size=64, head="query2label"),
}


def recipe_of(model: ModelRecipe, **train: object) -> Recipe:
    return Recipe(model=model, loss=LossRecipe("asl"), train=TrainRecipe(batch_size=8, **train))  # type: ignore[arg-type]


def measured(recipe: Recipe) -> int:
    """Bytes that a real forward pass saves, with the storages found by their address."""
    network = TrcglNet(recipe.model, FINDINGS, torch.eye(FINDINGS), load_weights=False).train()
    if recipe.train.gradient_checkpointing:
        checkpoint_gradients(network.backbone)
    loss = LOSSES[recipe.loss.name](recipe.loss.settings, torch.ones(FINDINGS), torch.ones(FINDINGS))
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    storages: dict[int, int] = {}
    kept = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    size = recipe.model.image_size
    labels = torch.zeros(recipe.train.batch_size, FINDINGS)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=recipe.train.precision == "bf16-mixed"),
    ):
        logits = network(torch.rand(len(labels), 1, size, size)).logits
        elementwise, counted = elements(loss, logits, labels, labels == 0, torch.ones(len(labels)) > 0)
        total = masked_mean(elementwise, counted, torch.ones(len(labels)))
    assert total.requires_grad
    return sum(size for address, size in storages.items() if address not in own)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("model", SMALL.values(), ids=SMALL)
def test_the_activations_are_within_a_tenth_of_what_autograd_saves(model, precision):
    recipe = recipe_of(model, precision=precision)
    estimated = training_memory(recipe, FINDINGS, device="cpu").activations
    assert estimated == pytest.approx(measured(recipe), rel=0.1)


def test_weights_gradients_and_optimizer_are_counted_exactly():
    recipe = recipe_of(SMALL["a ResNet with CSRA"], ema=0.9)
    network = TrcglNet(recipe.model, FINDINGS, torch.eye(FINDINGS), load_weights=False)
    parameters = sum(weight.nbytes for weight in network.parameters())
    buffers = sum(buffer.nbytes for buffer in network.buffers())
    found = training_memory(recipe, FINDINGS)
    trained = sum(weight.nbytes for weight in network.parameters() if weight.requires_grad)
    assert found.weights == found.average == parameters + buffers
    assert (found.gradients, found.optimizer) == (trained, 2 * trained)
    assert found.total == 2 * found.weights + 3 * trained + found.activations + found.allowance


def test_gradient_checkpointing_needs_the_inputs_of_all_blocks_and_one_block():
    recipe = recipe_of(SMALL["a ConvNeXt with the head of TRCGL-Net"], gradient_checkpointing=True)
    plain = training_memory(overridden(recipe, {"train.gradient_checkpointing": False}), FINDINGS, device="cpu")
    found = training_memory(recipe, FINDINGS, device="cpu")
    one_block = found.activations - measured(recipe)
    network = TrcglNet(recipe.model, FINDINGS, torch.eye(FINDINGS), load_weights=False).train()
    with count_saved(network) as saved:
        output = network(torch.rand(8, 1, 64, 64))
    assert output.logits.requires_grad
    blocks = [size for name, size in saved.of_module.items() if name.rpartition(".")[0].endswith("blocks")]
    assert one_block == pytest.approx(max(blocks), rel=0.1)
    assert found.activations < plain.activations / 2


def test_a_frozen_backbone_saves_no_activations_of_its_own():
    recipe = recipe_of(SMALL["a ConvNeXt with the head of TRCGL-Net"], head_warmup_epochs=1, epochs=1)
    free = training_memory(overridden(recipe, {"train.head_warmup_epochs": 0}), FINDINGS)
    found = training_memory(recipe, FINDINGS)
    assert found.activations < free.activations / 50
    assert found.gradients < free.gradients / 5


def test_cached_features_leave_gradients_and_optimizer_state_of_the_head():
    recipe = recipe_of(SMALL["a ConvNeXt with the head of TRCGL-Net"], frozen_backbone=True)
    network = TrcglNet(recipe.model, FINDINGS, torch.eye(FINDINGS), load_weights=False)
    weights = [*network.head_norm.parameters(), *network.head.parameters()]
    of_head = sum(weight.nbytes for weight in weights if weight.requires_grad)
    found = training_memory(recipe, FINDINGS, device="cpu")
    assert (found.gradients, found.optimizer) == (of_head, 2 * of_head)
    network.backbone.requires_grad_(False)
    network.norm.requires_grad_(False)
    feature = network.backbone_features(torch.rand(8, 1, 64, 64))
    with count_saved(network) as saved:
        output = network.train().from_backbone(feature)
    assert output.logits.requires_grad
    assert found.activations == pytest.approx(saved.total, rel=0.1)


def test_equal_averaging_of_the_last_epochs_needs_a_second_copy_of_the_weights():
    recipe = recipe_of(SMALL["a ResNet with CSRA"], swa_epochs=1, ema=0.0)
    found = training_memory(recipe, FINDINGS)
    assert found.average == found.weights
    assert training_memory(overridden(recipe, {"train.swa_epochs": 0}), FINDINGS).average == 0


def test_warm_up_and_retraining_without_an_epoch_between_train_the_head_alone():
    model = SMALL["a ConvNeXt with the head of TRCGL-Net"]
    whole = training_memory(recipe_of(model, epochs=4, head_warmup_epochs=4), FINDINGS)
    divided = training_memory(recipe_of(model, epochs=4, head_warmup_epochs=2, retrain_epochs=2), FINDINGS)
    assert divided == whole
    between = training_memory(recipe_of(model, epochs=4, head_warmup_epochs=1, retrain_epochs=2), FINDINGS)
    assert between == training_memory(recipe_of(model, epochs=4), FINDINGS)


def test_a_batch_is_divided_among_devices():
    recipe = recipe_of(SMALL["a ResNet with CSRA"])
    alone, shared = training_memory(recipe, FINDINGS), training_memory(recipe, FINDINGS, devices=2)
    assert shared.activations == pytest.approx(alone.activations / 2, rel=0.05)


def test_attention_on_a_gpu_grows_with_the_number_of_tokens_and_not_with_its_square():
    """The fused kernels save queries, keys, values and the output, but no tokens x tokens weights."""
    small = ModelRecipe("vit_tiny_patch16_224", image_size=256, head="linear")  # 257 tokens
    sizes = [training_memory(recipe_of(replace(small, image_size=side)), FINDINGS) for side in (256, 512)]
    assert sizes[1].activations / sizes[0].activations == pytest.approx(1025 / 257, rel=0.05)


def test_the_recipe_for_small_radiographs_needs_little():
    assert training_memory(RECIPES["nih_mini"](), 15).total < 4 * 2**30
