"""A folder of the wrong kind is named as what it is, with the verb that fits."""

import json

import pytest

from trcgl.core.errors import CheckpointError, DataError
from trcgl.core.folder_kind import AUDIT, DATASET, ENSEMBLE, GENERATOR, MODEL, RUN, STUDY, SYNTHETIC, expect, kind_of


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["dataset.json"], DATASET),
        (["dataset.json", "provenance.parquet"], SYNTHETIC),
        (["run.json", "recipe.json"], RUN),
        (["model.json"], MODEL),
        (["ensemble.json"], ENSEMBLE),
        (["generator.json", "run.json", "recipe.json"], GENERATOR),
        (["study.json"], STUDY),
        (["audit.json"], AUDIT),
        (["notes.txt"], None),
    ],
)
def test_a_folder_is_known_by_its_files(files, kind, tmp_path):
    for name in files:
        (tmp_path / name).write_text("{}")
    assert kind_of(tmp_path) is kind


def test_a_generator_whose_training_has_not_finished_is_not_a_run(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "recipe.json").write_text(json.dumps({"name": "x", "autoencoder": {}}))
    assert kind_of(tmp_path) is GENERATOR


def test_the_message_names_the_kind_and_the_verb_that_fits(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    expect(run, RUN)
    with pytest.raises(DataError) as refused:
        expect(run, DATASET)
    assert str(refused.value) == (
        f"{run} is a run folder, not a dataset folder. `trcgl prepare` makes a dataset folder; "
        f"to use a run folder: `trcgl evaluate {run}`."
    )


def test_a_missing_folder_a_file_and_a_foreign_folder_are_distinguished(tmp_path):
    (tmp_path / "file").touch()
    for path, problem in (
        (tmp_path / "gone", "no such file or folder. Give a generator"),
        (tmp_path / "file", "is a file. Give a generator"),
        (tmp_path, "is a folder that trcgl did not write or finish, not a generator"),
    ):
        with pytest.raises(CheckpointError, match=problem):
            expect(path, GENERATOR, error=CheckpointError)
