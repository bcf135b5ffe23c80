"""The guided tour: it runs, it tells what it did, and its commands are the real ones."""

import json
import shlex

import pytest

from trcgl import cli
from trcgl.demo import DemoSize, demo


@pytest.fixture(scope="module")
def toured(tmp_path_factory):
    """The folder and the result of a tiny demo."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo(folder, DemoSize(train_images=40, positives_per_finding=1, pixels=64, epochs=1))


def test_the_demo_ends_with_a_report_on_phantoms(toured):
    folder, told = toured
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert told["report"] == str(folder / "run" / "report.html")
    assert "phantom" in page.lower()
    assert "Research use only" in page


def test_the_demo_tells_what_it_did_and_that_phantoms_are_no_evidence(toured):
    _, told = toured
    assert told["schema"] == "trcgl.demo/1"
    assert {"mAP", "mAUC", "head", "medium", "tail"} == set(told["test"])
    assert "Nothing here is clinical evidence" in told["tour"]
    assert all(command in told["tour"] for command in told["commands"])
    json.dumps(told, allow_nan=False)


def test_the_demo_scores_files_as_a_user_would(toured):
    folder, _ = toured
    lines = (folder / "scores.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("image_id,score/")
    assert len(lines) == 1 + len(list((folder / "scans").glob("*.png")))


def test_its_commands_do_what_it_did_and_go_on_where_it_stopped(toured, capsys):
    """Other settings would be refused by the folders that are there, so every command is the same one again."""
    folder, told = toured
    written = [folder / "run" / name for name in ("run.json", "model/model.json", "model/model.safetensors")]
    before = [path.read_bytes() for path in written]
    for command in told["commands"]:
        assert cli.main(shlex.split(command.split(" > ")[0])[1:]) == 0, command
    assert capsys.readouterr().out.endswith((folder / "scores.csv").read_text(encoding="utf-8"))
    assert [path.read_bytes() for path in written] == before
