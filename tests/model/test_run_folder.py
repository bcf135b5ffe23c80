import pytest

from tests.dataset.small_dataset import SPACE, write_dataset
from tests.model.small_run import write_run_beside
from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.model.run_folder import open_run


@pytest.fixture
def folders(tmp_path):
    dataset = write_dataset(tmp_path / "data")
    return dataset, write_run_beside(dataset, tmp_path / "run")


def test_a_run_opens_with_its_model_recipe_and_dataset(folders):
    dataset, folder = folders
    run = open_run(folder)
    assert run.model.space.findings == SPACE.findings
    assert run.recipe.evaluate.replicates == 120
    assert run.dataset.folder.samefile(dataset)
    assert run.dataset is run.dataset  # opened once


def test_an_unfinished_run_is_refused(folders):
    _, folder = folders
    info = storage.read_json(folder / "run.json")
    storage.write_json(folder / "run.json", {name: info[name] for name in info if name != "finished"})
    with pytest.raises(DataError, match="is not finished"):
        open_run(folder)


def test_a_folder_without_a_run_is_refused(tmp_path):
    message = r"did not write or finish, not a run folder: it has no run\.json\. `trcgl train` makes"
    with pytest.raises(DataError, match=message):
        open_run(tmp_path)


def test_a_moved_dataset_is_reported_with_its_recorded_place(folders, tmp_path):
    dataset, folder = folders
    run = open_run(folder)
    dataset.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="data, which is gone"):
        _ = run.dataset


def test_a_changed_dataset_is_refused(folders):
    dataset, folder = folders
    storage.write_json(dataset / "dataset.json", {**storage.read_json(dataset / "dataset.json"), "name": "changed"})
    with pytest.raises(DataError, match="no longer the dataset"):
        _ = open_run(folder).dataset


def test_a_run_without_its_recipe_is_refused_by_name(folders):
    _, folder = folders
    (folder / "recipe.json").unlink()
    with pytest.raises(DataError, match=r"recipe\.json is missing"):
        _ = open_run(folder).recipe
