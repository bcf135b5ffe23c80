"""The command line as a person meets it: help, exit codes, one readable line for a mistake."""

import json
import subprocess
import sys

import pytest

from trcgl import cli
from trcgl.core.errors import DataError, Interrupted


def test_help_lists_every_verb_and_opens_with_an_example(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Example: trcgl ")
    assert "Research use only" in text
    for verb in cli.VERBS:
        assert f"trcgl {verb}" in text


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_help_of_a_verb_gives_its_example(verb, capsys):
    assert cli.main([verb, "--help"]) == 0
    assert cli.VERBS[verb].example in " ".join(capsys.readouterr().out.split())


def test_help_imports_neither_torch_nor_numpy():
    code = (
        "import sys; from trcgl.cli import main; main(['--help']); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'polars', 'lightning')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_an_unknown_verb_is_answered_with_the_known_ones(capsys):
    assert cli.main(["prepair"]) == 2
    assert "unknown verb 'prepair'; there are prepare" in capsys.readouterr().err


def test_an_unknown_source_is_answered_with_the_known_ones(capsys):
    assert cli.main(["prepare", "padchset", "--out", "x"]) == 2
    assert "unknown source 'padchset'; there are padchest, nih" in capsys.readouterr().err


def test_an_unknown_recipe_is_answered_with_the_known_ones(capsys):
    assert cli.main(["train", "x", "--recipe", "trgcl", "--out", "y"]) == 2
    assert "unknown recipe 'trgcl'; there are trcgl, trcgl_paper" in capsys.readouterr().err


def test_a_missing_dataset_is_a_mistake_of_the_input_and_not_a_traceback(tmp_path, capsys):
    assert cli.main(["describe", str(tmp_path / "gone")]) == 2
    error = capsys.readouterr().err
    assert "dataset.json: no such file" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("raised", "code"),
    [(DataError("row 3"), 2), (Interrupted(15, "saved"), 143), (KeyboardInterrupt(), 130), (ZeroDivisionError(), 1)],
)
def test_every_ending_has_its_exit_code(raised, code, monkeypatch):
    def fail(arguments, verb):
        raise raised

    monkeypatch.setitem(cli.VERBS, "describe", cli.Verb("", "", fail))
    assert cli.main(["describe"]) == code


def test_json_prints_one_object_that_a_program_can_read(monkeypatch, capsys):
    result = {"images": 3, "groups": {"tail": ["Hernia"]}}
    monkeypatch.setitem(cli.VERBS, "describe", cli.Verb("", "", lambda arguments, verb: result))
    assert cli.main(["describe", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == result


def test_a_recipe_field_is_overridden_by_its_path(monkeypatch):
    import trcgl.model.train as stage

    monkeypatch.setattr(
        stage, "train", lambda dataset, recipe, out: {"epochs": recipe.train.epochs, "name": recipe.name}
    )
    given = ["d", "--recipe", "nih_mini", "--out", "r", "--train.epochs", "5"]
    assert cli.VERBS["train"].run(given, "train") == {"epochs": 5, "name": "nih_mini"}
