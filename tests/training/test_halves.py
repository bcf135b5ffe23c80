"""A run on one half of the train patients, and who may screen with it."""

import pytest

from tests.dataset.small_dataset import small_recipe, write_dataset
from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.dataset.patient_halves import half
from trcgl.dataset.store import open_dataset
from trcgl.generate.inputs import open_screener
from trcgl.training import batches as datamodule
from trcgl.training.train import train


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small")


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_run_on_a_half_reads_its_patients_alone_and_says_so(dataset, tmp_path, monkeypatch, capsys, which):
    read, get = [], datamodule.SplitRows.__getitem__

    def spy(self, part):
        read.extend(self._store_rows[part.rows].tolist())
        return get(self, part)

    monkeypatch.setattr(datamodule.SplitRows, "__getitem__", spy)
    train(dataset, small_recipe(epochs=1, half=which), tmp_path / "run")
    opened = open_dataset(dataset)
    own = half(opened, which)
    assert set(read) == set(own["row"]) | set(opened.split("val")["row"])
    stored = storage.read_json(tmp_path / "run" / "model" / "model.json")
    assert stored["training_patient_digest"] == storage.digest(own["patient_id"].unique().to_list())
    assert f"the {which} half of the train patients: {own['patient_id'].n_unique()} patients" in capsys.readouterr().err
    assert open_screener(tmp_path / "run", opened).space == opened.space


def test_a_finding_that_a_half_lacks_is_said(tmp_path, capsys):
    """Of four patients, the one with the rarest findings is in the first half."""
    dataset = write_dataset(tmp_path / "small", train=8, seed=4)
    train(dataset, small_recipe(epochs=1, half="second"), tmp_path / "run")
    own = half(open_dataset(dataset), "second")
    assert not own["Edema"].sum() and not own["Hernia"].sum()
    assert "no positive of Edema, Hernia:" in capsys.readouterr().err


def test_a_screener_of_other_patients_is_still_refused(dataset, tmp_path):
    train(write_dataset(tmp_path / "other", seed=1), small_recipe(epochs=1, half="first"), tmp_path / "run")
    with pytest.raises(DataError, match="not trained on the train patients"):
        open_screener(tmp_path / "run", open_dataset(dataset))
