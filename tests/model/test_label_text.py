"""Label embeddings that start from a text model."""

import dataclasses
import shutil
import sys

import numpy as np
import pytest
import torch

from tests.dataset.small_dataset import SPACE, small_recipe, write_dataset
from trcgl.core.errors import RecipeError
from trcgl.model.folder import load_model
from trcgl.model.label_text import finding_vectors
from trcgl.training.train import train

transformers = pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "mass", "edema", "hernia", "normal", "pleural", "thickening"]


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    """A sentence encoder with random weights, ten words and vectors of 12 numbers."""
    folder = tmp_path_factory.mktemp("text") / "encoder"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
    )
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


def test_a_finding_is_the_normalized_mean_of_what_the_model_says_of_its_name(text_model):
    vectors = finding_vectors(text_model, ["Pleural_Thickening", "Mass"])
    model = transformers.AutoModel.from_pretrained(text_model).eval()
    ids = [
        [WORDS.index(word) for word in ("[CLS]", *words, "[SEP]")] for words in (["pleural", "thickening"], ["mass"])
    ]
    with torch.no_grad():
        means = torch.stack([model(torch.tensor([tokens])).last_hidden_state[0].mean(0) for tokens in ids])
    torch.testing.assert_close(vectors, means / means.norm(dim=1, keepdim=True))
    assert vectors.dtype == torch.float32 and not vectors.is_inference()


def test_of_a_model_with_a_decoder_the_encoder_is_read(tmp_path, text_model):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(f"{text_model}/{name}", tmp_path / name)
    config = transformers.T5Config(vocab_size=len(WORDS), d_model=12, d_kv=6, d_ff=24, num_layers=2, num_heads=2)
    transformers.T5Model(config).save_pretrained(tmp_path)
    assert finding_vectors(str(tmp_path), SPACE.findings).shape == (4, 12)


def test_a_model_that_is_not_there_is_named_with_what_to_try(tmp_path):
    with pytest.raises(RecipeError) as error:
        finding_vectors(str(tmp_path / "nothing"), SPACE.findings)
    for words in ("model.label_text", "nothing", "model.safetensors", "hub id", "leave model.label_text out"):
        assert words in str(error.value)


def test_a_pickled_model_is_not_opened(tmp_path, text_model):
    copy = shutil.copytree(text_model, tmp_path / "pickled")
    torch.save({}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(RecipeError, match=r"safetensors"):
        finding_vectors(str(copy), SPACE.findings)


def test_without_transformers_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RecipeError, match=r"trcgl-net\[generate\]"):
        finding_vectors("any", ["Mass"])


def test_a_trained_model_does_not_need_the_text_model(tmp_path, text_model):
    copy = shutil.copytree(text_model, tmp_path / "text")
    recipe = small_recipe(epochs=1)
    model = dataclasses.replace(recipe.model, label_text=str(copy), learn_embeddings=False)
    train(write_dataset(tmp_path / "data"), dataclasses.replace(recipe, model=model), tmp_path / "run")
    expected = finding_vectors(str(copy), SPACE.findings)
    shutil.rmtree(copy)
    loaded = load_model(tmp_path / "run/model")
    torch.testing.assert_close(loaded.network.head.graph.embeddings.data, expected)
    assert np.isfinite(loaded.logits(np.zeros((2, 32, 32), np.uint8))).all()
