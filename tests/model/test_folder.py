import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.dataset.small_dataset import write_dataset
from tests.model.small_run import write_model, write_run_beside
from trcgl.core.errors import CheckpointError, DataError
from trcgl.core.recipe import ModelRecipe, Recipe
from trcgl.core.storage import sha256_file
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.sources import phantom
from trcgl.model.folder import load_model, save_model, update_calibration
from trcgl.model.heads import HEADS
from trcgl.model.label_graph import adjacency
from trcgl.model.trcgl_net import TrcglNet

SPACE = LabelSpace("three", ("Mass", "Hernia", "Edema"), {"Mass": "head", "Hernia": "tail", "Edema": "medium"})
GRAPH = adjacency(torch.tensor([[1, 0.3, 0], [0.2, 1, 0.5], [0, 0.1, 1]]), 0.02)


def save(folder, head="trcgl", vectors=None, **settings):
    torch.manual_seed(0)
    model = ModelRecipe(backbone="resnet10t", image_size=32, head=head, weights="gone.safetensors", **settings)
    recipe = Recipe(model=model)
    network = TrcglNet(recipe.model, 3, GRAPH, vectors=vectors, load_weights=False)
    network(torch.rand(4, 1, 32, 32))  # moves the running statistics of the batch norm
    save_model(
        folder,
        network.eval(),
        recipe=recipe,
        space=SPACE,
        preprocessing={"image_size": 32, "fit": "letterbox"},
        adjacency=GRAPH,
        training_patient_digest="0" * 64,
        license="apache-2.0",
        vectors=vectors,
    )
    return network


def images(count=5):
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32), dtype=np.uint8)


@pytest.mark.parametrize(
    "settings", [{}, {"graph": "learned", "queries": 2}, {"label_text": "gone", "learn_embeddings": False}]
)
@pytest.mark.parametrize("head", HEADS)
def test_loading_gives_the_same_logits_bit_for_bit(tmp_path, head, settings):
    vectors = torch.randn(3, 7) if "label_text" in settings else None
    network = save(tmp_path, head, vectors, **settings)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images())[:, None].float() / 255).logits.numpy()
    model = load_model(tmp_path)
    assert np.array_equal(model.logits(images()), expected)
    assert model.space == SPACE and model.image_size == 32 and model.fit == "letterbox"


@pytest.mark.parametrize("head", ["csra", "ml_decoder", "query2label", "ml_gcn"])
def test_a_model_stored_before_heads_had_versions_scores_as_then(tmp_path, head):
    network = save(tmp_path, head, head_version="0.2")
    with torch.inference_mode():
        expected = network(torch.from_numpy(images())[:, None].float() / 255).logits.numpy()
    description = json.loads((tmp_path / "model.json").read_text())
    for added in ("head_version", "csra_gate", "encoder_blocks", "decoder_dropout"):
        del description["recipe"]["model"][added]
    (tmp_path / "model.json").write_text(json.dumps(description))
    assert np.array_equal(load_model(tmp_path).logits(images()), expected)


@pytest.mark.parametrize("head", ["linear", "trcgl"])
def test_the_graph_comes_back_with_the_model(tmp_path, head):
    save(tmp_path, head)
    assert torch.equal(load_model(tmp_path).adjacency, GRAPH)
    if head == "trcgl":
        assert torch.equal(load_model(tmp_path).network.head.graph.adjacency, GRAPH)


@pytest.mark.parametrize(("vectors", "settings"), [(torch.randn(3, 7), {}), (None, {"label_text": "a-model"})])
def test_text_vectors_that_do_not_fit_the_recipe_are_refused(tmp_path, vectors, settings):
    save(tmp_path, "trcgl", vectors, **settings)
    with pytest.raises(CheckpointError, match="text vectors do not fit model.json's label_text"):
        load_model(tmp_path)


def test_scores_do_not_depend_on_the_batch_size(tmp_path):
    save(tmp_path)
    model = load_model(tmp_path)
    np.testing.assert_allclose(model.score(images(), batch_size=2), model.score(images(), batch_size=64), rtol=1e-5)
    assert model.score(images(0)).shape == (0, 3)


def test_a_fitted_temperature_and_thresholds_are_kept_and_used(tmp_path):
    save(tmp_path)
    before = load_model(tmp_path)
    assert before.thresholds is None and before.temperature is None
    thresholds = {"Mass": 0.3, "Hernia": 0.05, "Edema": 0.5}
    update_calibration(tmp_path, thresholds, 2.0)
    after = load_model(tmp_path)
    assert after.thresholds == thresholds
    np.testing.assert_allclose(after.score(images()), 1 / (1 + np.exp(-before.logits(images()) / 2)), rtol=1e-5)


@pytest.mark.parametrize(
    ("thresholds", "temperature"), [({"Mass": 0.5}, 1.0), ({"Mass": 0.5, "Hernia": 0.5, "Edema": 0.5}, 0.0)]
)
def test_a_calibration_that_cannot_be_is_refused(tmp_path, thresholds, temperature):
    save(tmp_path)
    with pytest.raises(CheckpointError):
        update_calibration(tmp_path, thresholds, temperature)
    assert load_model(tmp_path).thresholds is None


def test_images_of_another_size_are_refused(tmp_path):
    save(tmp_path)
    with pytest.raises(DataError, match=r"the model takes 32 x 32\. Resize them with `model\.resized"):
        load_model(tmp_path).score(np.zeros((1, 64, 64), np.uint8))


def edit(folder, **changes):
    info = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**info, **changes}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": "trcgl.model/9"}, "trcgl.model/9"),
        ({"weights_sha256": "0"}, "not the file"),
        ({"recipe": {"nome": "x"}}, "unknown: nome"),
        ({"label_space": {"name": "x"}}, "label space"),
        ({"label_space": LabelSpace("two", ("Mass", "Hernia")).to_dict()}, "label graph"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, changes, words):
    save(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=words):
        load_model(tmp_path)


def test_a_tensor_of_another_shape_is_refused(tmp_path):
    save(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["network.head.classifier.bias"] = torch.zeros(9)
    save_file(tensors, path)
    edit(tmp_path, weights_sha256=sha256_file(path))
    with pytest.raises(CheckpointError, match=r"head\.classifier\.bias"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_model(tmp_path)


def test_a_pickle_in_place_of_the_weights_is_not_opened(tmp_path):
    save(tmp_path)
    torch.save({}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_model(tmp_path)


def without(info, *names):
    return {name: value for name, value in info.items() if name not in names}


def as_written_by_version_0_1_0(folder):
    info = json.loads((folder / "model.json").read_text())
    edit(folder, source=None, preprocessing=without(info["preprocessing"], "stored_size"))


def test_a_model_records_the_source_and_the_image_size_of_its_dataset(tmp_path):
    write_model(tmp_path, stored_size=64, source="phantom")
    model = load_model(tmp_path)
    assert model.shape == (64, "letterbox") and model.image_size == 32 and model.of_phantoms
    assert model.resized(np.zeros((2, 64, 64), np.uint8)).shape == (2, 32, 32)


def test_a_model_of_an_earlier_version_takes_both_from_the_dataset_of_its_run(tmp_path):
    dataset = write_dataset(tmp_path / "data")
    described = {**json.loads((dataset / "dataset.json").read_text()), "image_size": 48, "source": "phantom"}
    (dataset / "dataset.json").write_text(json.dumps(described))
    run = write_run_beside(dataset, tmp_path / "run")
    as_written_by_version_0_1_0(run / "model")
    assert load_model(run / "model").shape == (48, "letterbox") and load_model(run / "model").of_phantoms
    (dataset / "dataset.json").write_text("another")
    assert load_model(run / "model").shape == (32, "letterbox") and not load_model(run / "model").of_phantoms


@pytest.mark.parametrize(
    ("space", "source", "of_phantoms"),
    [
        (phantom.SPACE, None, True),
        (LabelSpace("phantom", ("Mass", "Hernia")), None, False),  # a hospital's folder that is named `phantom`
        (LabelSpace("phantom", ("Mass", "Hernia")), "table", False),
        (LabelSpace("lab", ("Mass", "Hernia")), "phantom", True),
    ],
)
def test_phantoms_are_recognized_by_their_source_and_not_by_the_name_of_a_folder(space, source, of_phantoms, tmp_path):
    write_model(tmp_path, space=space, source=source)
    assert load_model(tmp_path).of_phantoms == of_phantoms
