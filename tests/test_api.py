"""The Python interface: what `trcgl` offers by name."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import trcgl
from tests.dataset.small_dataset import SPACE, small_recipe, write_dataset
from trcgl.core.errors import DataError, RecipeError

PUBLIC = [name for name in trcgl.__all__ if name not in ("__version__", "metrics")]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return trcgl.open_dataset(write_dataset(tmp_path_factory.mktemp("data") / "small"))


def test_importing_trcgl_imports_no_torch_and_every_name_is_there():
    code = "import sys, trcgl; assert not {'torch', 'polars', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(hasattr(trcgl, name) for name in trcgl.__all__)
    assert dir(trcgl) == trcgl.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = trcgl.nothing


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring_with_arguments_and_an_example(name):
    text = inspect.getdoc(getattr(trcgl, name))
    assert "Args:" in text or name == "LossSettings"
    assert "\n    " in text.partition("Args:")[0], "an example before the arguments"


def test_a_torch_dataset_gives_images_and_labels_with_unknown_ones(dataset):
    rows = trcgl.TorchDataset(dataset, "train")
    image, label = rows[3]
    stored = dataset.split("train")
    assert len(rows) == stored.height and rows.findings == SPACE.findings
    assert image.dtype == label.dtype == torch.float32
    np.testing.assert_array_equal(image[0].numpy() * 255, dataset.images[stored["row"][3]])
    known = [value if value is not None else np.nan for value in stored.select(SPACE.findings).row(3)]
    np.testing.assert_array_equal(label.numpy(), np.array(known, np.float32))
    assert rows.labels.shape == (len(rows), 4) and np.isnan(rows.labels).any()


def test_a_torch_dataset_is_read_by_workers_at_another_size(dataset):
    rows = trcgl.TorchDataset(dataset, "val", image_size=16)
    images, labels = next(iter(DataLoader(rows, batch_size=5, num_workers=1)))
    assert images.shape == (5, 1, 16, 16) and labels.shape == (5, 4)
    assert 0 <= images.min() < images.max() <= 1


def test_an_unknown_split_is_refused(dataset):
    with pytest.raises(DataError, match="splits are train, val, test"):
        trcgl.TorchDataset(dataset, "validation")


def test_a_network_is_made_of_any_backbone_and_head_by_name():
    network = trcgl.create_model("test_resnet", findings=5, head="csra", image_size=96)
    logits, maps, _ = network(torch.rand(2, 1, 96, 96))
    assert logits.shape == (2, 5) and maps.shape[:2] == (2, 5)


def test_a_network_is_made_by_the_name_of_a_recipe_or_by_a_recipe():
    network = trcgl.create_model("phantom", findings=["Mass", "Edema"])
    assert network(torch.rand(1, 1, 96, 96)).logits.shape == (1, 2)
    recipe = small_recipe()
    for given in (recipe, recipe.model):
        network = trcgl.create_model(given, findings=3, head="linear")
        assert network(torch.rand(1, 1, 32, 32)).maps is None


def test_the_label_graph_of_a_network_is_that_of_the_cooccurrence():
    conditional = np.array([[1, 0.5], [0.3, 1]])
    network = trcgl.create_model(small_recipe(), findings=2, cooccurrence=conditional)
    edge = 0.4 / 1.4
    torch.testing.assert_close(network.head.graph.adjacency, torch.tensor([[1 / 1.4, edge], [edge, 1 / 1.4]]))
    assert torch.equal(trcgl.create_model(small_recipe(), findings=2).head.graph.adjacency, torch.eye(2))


@pytest.mark.parametrize(
    ("name", "settings", "problem"),
    [
        ("resnet1", {}, "no model 'resnet1'. Did you mean"),
        ("test_resnet", {"head": "line"}, "Did you mean linear"),
        ("test_resnet", {"heads": "linear"}, "heads"),
        ("test_resnet", {"label_text": "folder"}, "needs the names of the findings"),
    ],
)
def test_a_network_that_cannot_be_made_is_refused(name, settings, problem):
    with pytest.raises(RecipeError, match=problem):
        trcgl.create_model(name, findings=2, **settings)


def test_a_recipe_is_made_by_name_with_changes():
    recipe = trcgl.create_recipe("phantom", {"train.epochs": 2, "model.head": "csra"})
    assert (recipe.name, recipe.train.epochs, recipe.model.head) == ("phantom", 2, "csra")
    with pytest.raises(RecipeError, match="Did you mean phantom"):
        trcgl.create_recipe("phantoms")


def test_a_dataset_is_prepared_and_opened_and_its_settings_are_checked(tmp_path):
    settings = {"train_images": 20, "positives_per_finding": 1, "size": 24, "workers": 1}
    dataset = trcgl.prepare("phantom", tmp_path / "phantoms", **settings)
    assert dataset.images.shape[1:] == (24, 24) and dataset.split("train").height == 20
    assert trcgl.prepare("phantom", tmp_path / "phantoms", **settings).folder == dataset.folder
    with pytest.raises(RecipeError, match="Did you mean train_images"):
        trcgl.prepare("phantom", tmp_path / "other", train_image=20)
    with pytest.raises(RecipeError, match="Did you mean phantom"):
        trcgl.prepare("phantoms", tmp_path / "other")


def test_a_run_is_trained_and_its_model_loaded(dataset, tmp_path):
    info = trcgl.train(dataset, tmp_path / "run", small_recipe(), {"train.epochs": 1})
    assert info["best"]["epoch"] == 1
    model = trcgl.load_model(tmp_path / "run")
    assert set(model.predict(dataset.images[0]).scores) == set(SPACE.findings)
    gray = Image.fromarray(dataset.images[0])
    gray.save(tmp_path / "gray.png")
    color = Image.merge("RGB", [gray] * 3)
    several = model.predict([dataset.images[0], dataset.images[1], tmp_path / "gray.png", gray, color])
    assert several[0].scores == pytest.approx(model.predict(str(tmp_path / "gray.png")).scores)
    assert all(prediction.scores == pytest.approx(several[0].scores) for prediction in several[2:])
    assert several[1].scores != several[0].scores
    assert model.predict([]) == []


def test_a_loss_is_the_mean_over_known_labels(dataset):
    labels = trcgl.TorchDataset(dataset, "train").labels
    loss = trcgl.create_loss("bce", labels)
    logits, label = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([[1.0, torch.nan], [0.0, torch.nan]])
    expected = (torch.log1p(torch.exp(torch.tensor(-1.0))) + torch.log1p(torch.exp(torch.tensor(0.5)))) / 2
    torch.testing.assert_close(loss(logits, label), expected)


def test_the_settings_of_a_loss_are_given_by_name_and_checked(dataset):
    labels = trcgl.TorchDataset(dataset, "train").labels
    logits, absent = torch.tensor([[2.0]]), torch.tensor([[0.0]])
    losses = [trcgl.create_loss("focal", labels, focal_gamma=gamma)(logits, absent) for gamma in (0, 1.0)]
    torch.testing.assert_close(losses[1], torch.sigmoid(logits[0, 0]) * losses[0])
    for name, settings in (("as", {}), ("asl", {"gamma": 2.0}), ("asl", {"clip": "wide"})):
        with pytest.raises(RecipeError):
            trcgl.create_loss(name, labels, **settings)
