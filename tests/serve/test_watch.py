"""A folder whose files are scored as they arrive."""

import os
import time

import pytest

pytest.importorskip("pynetdicom", reason="needs the extra `dicom-node`")

from tests.model.small_run import study_file, write_run
from tests.serve.nodes import archive, arrived, needs_dcmtk, noded
from tests.serve.serving import png, until
from trcgl.core.errors import DataError
from trcgl.core.storage import read_json
from trcgl.serve import watch


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("watched") / "run")


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "SCAN_SECONDS", 0.1)
    (tmp_path / "in").mkdir()
    return {"dicom_port": None, "watch": tmp_path / "in", "out": tmp_path / "out", "spool": tmp_path / "spool"}


def answers(settings, count):
    out = settings["out"]
    until(lambda: len(list(out.glob("*/scores.json"))) >= count)
    return {path.parent.name: read_json(path) for path in out.glob("*/scores.json")}


def test_files_of_a_study_are_scored_together_and_stay_where_they_are(run, settings):
    folder = settings["watch"]
    (folder / "sub").mkdir()
    with noded(run, **settings):
        (folder / "1.dcm").write_bytes(study_file(1, 7))
        (folder / "sub" / "2.dcm").write_bytes(study_file(2, 7))
        (folder / "a b.png").write_bytes(png())
        found = answers(settings, 2)
    (study,) = found.pop(next(name for name in found if name != "a_b.png"))["studies"]
    assert study["image_ids"] == ["1.dcm", "sub/2.dcm"]
    (picture,) = found["a_b.png"]["studies"]
    assert picture["study_id"] == "a b.png"
    assert len(list(settings["out"].glob("*/report.sr.dcm"))) == 1
    assert len(arrived(folder, 3)) == 3


def test_a_file_is_scored_when_it_has_stopped_growing(run, settings):
    content, path = study_file(1, 7), settings["watch"] / "1.dcm"
    with noded(run, **settings):
        for end in range(0, len(content), len(content) // 6):
            path.write_bytes(content[:end])
            time.sleep(0.2)
        path.write_bytes(content)
        found = answers(settings, 1)
    assert [answer["unreadable"] for answer in found.values()] == [[]]


def test_a_finished_file_is_remembered_over_a_restart_and_scored_again_when_it_changes(run, settings):
    path = settings["watch"] / "1.dcm"
    path.write_bytes(study_file(1, 7))
    with noded(run, **settings):
        answers(settings, 1)
    with noded(run, **settings):
        (settings["watch"] / "2.dcm").write_bytes(study_file(2, 8))
        answers(settings, 2)
        path.write_bytes(study_file(1, 7, seed=5))
        found = answers(settings, 3)
        time.sleep(1)
    assert len(found) == len(list(settings["out"].glob("*/scores.json"))) == 3


@needs_dcmtk
def test_the_report_of_a_watched_study_is_sent_on(run, settings, tmp_path):
    (settings["watch"] / "1.dcm").write_bytes(study_file(1, 7))
    with archive(tmp_path / "received") as port, noded(run, **settings, send_to=f"ARCHIVE@127.0.0.1:{port}"):
        assert len(arrived(tmp_path / "received")) == 1


def test_answers_that_cannot_be_written_are_tried_again(run, settings):
    (settings["watch"] / "1.dcm").write_bytes(study_file(1, 7))
    settings["out"].write_text("in the way")
    with noded(run, **settings):
        time.sleep(2)
        os.unlink(settings["out"])
        answers(settings, 1)


def test_a_missing_folder_is_named(run, settings):
    settings["watch"].rmdir()
    with pytest.raises(DataError, match="no such folder. Name an existing folder with --watch"), noded(run, **settings):
        pass
