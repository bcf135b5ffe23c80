"""Folders that survive interruption and never swallow what is not theirs."""

import errno

import pytest

from trcgl.core import storage
from trcgl.core.errors import DataError, RecipeError


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "model.json"
    storage.write_text(path, "old")
    with pytest.raises(ZeroDivisionError), storage.atomic(path) as aside:
        aside.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


def test_a_full_disk_is_said_so_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="No space left on device"), storage.atomic(tmp_path / "x") as aside:
        aside.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_folder_within_a_file_is_said_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"x\.json: cannot be written"):
        storage.write_json(tmp_path / "file" / "x.json", {})


def test_json_that_is_not_a_number_is_refused_rather_than_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.write_json(tmp_path / "e.json", {"AP": float("nan")})
    assert not list(tmp_path.iterdir())


def test_the_same_settings_resume_and_others_are_refused(tmp_path):
    folder = tmp_path / "out"
    assert storage.claim(folder, "recipe.json", "a") is False
    assert storage.claim(folder, "recipe.json", "a") is True
    with pytest.raises(RecipeError, match=r"other settings: seed: 0 → 1"):
        storage.claim(folder, "recipe.json", "b", lambda stored: "seed: 0 → 1")
    assert (folder / "recipe.json").read_text() == "a"


def test_a_folder_with_somebodys_files_is_refused_and_kept(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RecipeError, match="not made by trcgl"):
        storage.claim(tmp_path, "recipe.json", "a")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_digest_of_patients_does_not_depend_on_their_order():
    assert storage.digest(["b", "a"]) == storage.digest(["a", "b"]) != storage.digest(["ab"])


def test_the_environment_names_versions_and_no_place():
    stored = storage.environment()
    assert stored["packages"]["torch"]
    assert "/" not in str({key: value for key, value in stored.items() if key != "packages"})


def test_settings_that_an_earlier_version_wrote_as_another_text_are_the_same_settings(tmp_path):
    storage.claim(tmp_path / "out", "settings.json", '{"sampler": 1}')
    assert storage.claim(tmp_path / "out", "settings.json", '{"solver": 1}', lambda stored: "")
    with pytest.raises(RecipeError, match="other settings: solver: 1 → 2"):
        storage.claim(tmp_path / "out", "settings.json", '{"solver": 2}', lambda stored: "solver: 1 → 2")


def test_settings_of_a_command_that_made_nothing_are_replaced(tmp_path):
    storage.claim(tmp_path, "recipe.json", '{"weights": "hub"}')
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "training" / "network").mkdir(parents=True)
    (tmp_path / "training" / "network" / "metrics.jsonl").write_text("{}")
    (tmp_path / "training" / "network" / ".last.ckpt.7.part").write_text("half")
    assert storage.claim(tmp_path, "recipe.json", '{"weights": "file"}') is False
    assert (tmp_path / "recipe.json").read_text() == '{"weights": "file"}'
    (tmp_path / "checkpoints" / "last.ckpt").write_text("work")
    with pytest.raises(RecipeError, match="other settings"):
        storage.claim(tmp_path, "recipe.json", '{"weights": "hub"}')


def test_settings_of_another_program_are_not_replaced(tmp_path):
    (tmp_path / "settings.json").write_text('{"editor.tabSize": 4}')
    with pytest.raises(RecipeError, match="other settings"):
        storage.claim_settings(tmp_path, "settings.json", {"seed": 1})
    assert (tmp_path / "settings.json").read_text() == '{"editor.tabSize": 4}'
