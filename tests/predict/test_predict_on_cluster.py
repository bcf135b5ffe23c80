"""`predict` on a Dask cluster of two processes: the bytes of one machine, also if a worker is killed."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.clusters import killing_a_worker, two_workers
from tests.model.small_run import study_file, write_evaluated_ensemble, write_run
from trcgl.cli import main as cli
from trcgl.core.errors import DataError
from trcgl.predict import batches
from trcgl.predict.options import PredictOptions
from trcgl.predict.predict import predict, predict_to

ONE = PredictOptions(workers=1, batch_size=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Thirty-six radiographs, PNG and DICOM, a CT image and a text file."""
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    for number in range(30):
        Image.fromarray(rng.integers(0, 255, (40, 36), dtype=np.uint8)).save(folder / f"{number}.png")
    for number in range(6):
        (folder / f"{number}.dcm").write_bytes(study_file(number + 1, number // 2 + 1))
    (folder / "2-ct.dcm").write_bytes(study_file(9, 2, Modality="CT"))
    (folder / "5-notes.txt").write_text("not a radiograph")
    return folder


@pytest.fixture(scope="module")
def address():
    with two_workers() as address:
        yield address


@pytest.fixture(autouse=True)
def short_tasks(monkeypatch):
    monkeypatch.setattr(batches, "_TASK_BATCHES", 2)


def test_a_killed_worker_changes_no_byte(run, scans, address, tmp_path):
    on_cluster = dataclasses.replace(ONE, workers=0, cluster=address)
    _, alone, _ = predict_to(tmp_path / "alone.csv", run, [scans], ONE)
    journal = tmp_path / "shared.csv.partial"
    with killing_a_worker(address, lambda: journal.exists() and journal.read_text().count("\n") > 1) as killed:
        _, shared, _ = predict_to(tmp_path / "shared.csv", run, [scans], on_cluster)
    assert killed
    assert [path.read_bytes() for path in shared] == [path.read_bytes() for path in alone]
    assert len(alone) == 2  # the scores and the unreadable file


def test_studies_and_an_ensemble_are_averaged_as_on_one_machine(run, scans, address, tmp_path):
    other = write_run(tmp_path / "other", seed=1)
    files = sorted(scans.glob("*.dcm"))
    options = dataclasses.replace(ONE, by_study=True, tta=True, ensemble=(other,))
    alone = predict(run, files, options)
    shared = predict(run, files, dataclasses.replace(options, workers=0, cluster=address))
    assert shared.table.equals(alone.table)
    assert shared.table.height == 3


def test_an_ensemble_folder_scores_as_on_one_machine(scans, address, tmp_path):
    ensemble = write_evaluated_ensemble(tmp_path, fusion="max", tta=("1.1",))
    files = sorted(scans.glob("*.dcm"))
    alone = predict(ensemble, files, ONE)
    shared = predict(ensemble, files, dataclasses.replace(ONE, workers=0, cluster=address))
    assert shared.table.equals(alone.table) and alone.by_study


def test_studies_of_a_table_are_averaged_as_on_one_machine(run, scans, address, tmp_path):
    (tmp_path / "list.csv").write_text("path,exam\n" + "".join(f"{row}.png,{row // 4}\n" for row in range(12)))
    options = dataclasses.replace(ONE, root=scans, study_column="exam")
    alone = predict(run, [tmp_path / "list.csv"], options)
    shared = predict(run, [tmp_path / "list.csv"], dataclasses.replace(options, workers=0, cluster=address))
    assert shared.table.equals(alone.table)
    assert shared.table["images"].to_list() == [4, 4, 4]


def test_a_model_that_changed_in_its_folder_is_loaded_again(run, scans, address, tmp_path):
    options = dataclasses.replace(ONE, workers=0, cluster=address)
    shutil.copytree(run, tmp_path / "run")
    first = predict(tmp_path / "run", [scans / "0.png"], options)
    shutil.rmtree(tmp_path / "run")
    write_run(tmp_path / "run", seed=1)
    second = predict(tmp_path / "run", [scans / "0.png"], options)
    assert not second.table.equals(first.table)
    assert second.table.equals(predict(tmp_path / "run", [scans / "0.png"], ONE).table)


def test_a_worker_that_has_another_model_under_the_path_is_refused(run, scans, address, monkeypatch):
    identity = type(batches.load_ensemble([run])).identity.fget
    monkeypatch.setattr(
        "trcgl.model.ensemble.Ensemble.identity",
        property(lambda models: [{**member, "temperature": 9.0} for member in identity(models)]),
    )
    with pytest.raises(DataError, match=r"on the worker on \S+: .* another model .*\(temperature differ"):
        predict(run, [scans / "0.png"], dataclasses.replace(ONE, workers=0, cluster=address))


def test_a_command_interrupted_on_the_cluster_ends_on_one_machine_with_the_same_bytes(
    run, scans, address, tmp_path, monkeypatch
):
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    predict_to(whole, run, [scans], ONE)
    add, added = batches.Batch.names.fget, []

    def interrupt(batch):
        added.append(batch)
        if len(added) == 5:
            raise KeyboardInterrupt
        return add(batch)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(batches.Batch, "names", property(interrupt))
        with pytest.raises(KeyboardInterrupt):
            predict_to(out, run, [scans], dataclasses.replace(ONE, workers=0, cluster=address))
    assert len((tmp_path / "out.csv.partial").read_text().splitlines()) == 6  # settings and five batches
    predict_to(out, run, [scans], ONE)
    assert out.read_bytes() == whole.read_bytes()


def test_the_command_line_takes_the_address(run, scans, address, capsys):
    command = ["predict", str(run), str(scans / "0.png"), "--cluster", address, "--json"]
    assert cli.main(command) == 0
    assert [image["image_id"] for image in json.loads(capsys.readouterr().out)["images"]] == ["0.png"]
