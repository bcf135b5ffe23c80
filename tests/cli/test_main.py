"""The command line as a person meets it: help, exit codes, one readable line for a mistake."""

import dataclasses
import errno
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from trcgl.cli import main as cli
from trcgl.cli.main import VERBS
from trcgl.cli.study import KINDS
from trcgl.cli.verb import Done, Verb
from trcgl.core.errors import DataError, Interrupted
from trcgl.dataset.sources import SOURCES
from trcgl.recipes import RECIPES


@pytest.fixture
def pretend(monkeypatch):
    """Let the verb `describe` do something else."""

    def install(command):
        monkeypatch.setitem(VERBS, "describe", Verb("", "", lambda arguments: (command, arguments, None)))

    return install


def trcgl(*arguments):
    return subprocess.run([sys.executable, "-m", "trcgl", *arguments], capture_output=True, text=True, check=False)


def test_help_lists_every_verb_and_opens_with_an_example(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Example: trcgl ")
    assert "Research use only" in text
    for verb in VERBS:
        assert f"  trcgl {verb} " in text


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_opens_with_its_example(verb, capsys):
    assert cli.main([verb, "--help"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"Example: trcgl {verb}")


@pytest.mark.parametrize("source", SOURCES)
def test_the_help_of_a_source_shows_an_example_and_its_own_settings(source, capsys):
    assert cli.main(["prepare", source, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Example: trcgl prepare {source} ")
    assert f"usage: trcgl prepare {source} " in text
    assert "--manifest-only" in text
    own = dataclasses.fields(importlib.import_module(SOURCES[source]).Options)
    assert all(f"--source.{field.name.replace('_', '-')}" in text for field in own)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_help_of_a_recipe_shows_its_example_and_its_settings_as_defaults(recipe, capsys):
    assert cli.main(["train", "--recipe", recipe, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].startswith("Example: trcgl train ")
    assert f"--recipe {recipe}" in text.splitlines()[0]
    assert f"(default: {RECIPES[recipe]().train.epochs})" in text


@pytest.mark.parametrize(
    "command",
    [*VERBS, *(f"prepare {source}" for source in SOURCES), *(f"study {kind}" for kind in KINDS)],
)
def test_help_shows_no_default_of_none_or_nothing(command, capsys):
    assert cli.main([*command.split(), "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert not re.search(r"\(default: ?(None|'')?\)|\{None\}|\{None,", text)


@pytest.mark.parametrize(("verb", "named"), [("evaluate", "RUN RUN ..."), ("predict", "RUN PATH ...")])
def test_help_names_repeated_arguments_in_the_singular(verb, named, capsys):
    assert cli.main([verb, "--help"]) == 0
    assert f"[OPTIONS] {named}" in capsys.readouterr().out


def test_help_says_how_to_give_none_where_a_recipe_sets_a_value(capsys):
    assert cli.main(["train", "--recipe", "nih_mini", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--train.frozen-stages {None}|INT Freeze the stem" in text


def test_help_joins_the_lines_of_a_docstring(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    assert cli.main(["train-generator", "--help"]) == 0
    assert "`output` (after the encoded text, also in the empty prompt) or `none`. (default" in capsys.readouterr().out


def test_help_is_there_at_once():
    trcgl("--help")
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        assert trcgl("--help").returncode == 0
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.5


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_imports_no_network_library(arguments):
    code = (
        f"import sys; from trcgl.cli.main import main; main({arguments}); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'polars', 'lightning')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_the_package_runs_as_a_module():
    done = trcgl("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("trcgl 0.")


def test_processes_that_it_starts_run_no_module_of_the_current_folder(tmp_path):
    script = tmp_path / "bin" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "import multiprocessing, sys; from trcgl.cli.main import main\n"
        "if __name__ == '__main__':\n"
        "    main(['doctor', '--help'])\n"
        "    process = multiprocessing.get_context('spawn').Process(target=print)\n"
        "    process.start(), process.join(), sys.exit(process.exitcode)\n"
    )
    (tmp_path / "struct.py").write_text("raise SystemExit(3)")
    assert subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepair"], "unknown verb 'prepair'. Did you mean prepare? Available: demo, prepare"),
        (
            ["prepare", "padchset", "--out", "x"],
            "unknown source 'padchset'. Did you mean padchest? Available: padchest",
        ),
        (["prepare", "--root", "x"], "name the source first"),
        (["prepare", "nih", "--out", "x"], "--root is missing"),
        (
            ["train", "x", "--recipe", "trgcl", "--out", "y"],
            "unknown recipe 'trgcl'. Did you mean trcgl? Available: trcgl, trcgl_paper",
        ),
        (["train", "gone", "--recipe", "phantom", "--out", "y"], "gone: no such file or folder. Give a dataset folder"),
        (["describe", "gone"], "gone: no such file or folder. Give a dataset folder"),
        (["evaluate", "gone"], "gone: no such file or folder. Give a run folder"),
        (["compare", "gone"], "compare needs two runs or more"),
        (["predict", "gone"], "no file or folder was given"),
        (["predict", "gone", "here", "--format", "parquet"], "Name a file with --out"),
    ],
)
def test_a_mistake_is_answered_in_one_line_and_with_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert not said.out
    assert not list(tmp_path.iterdir())


def test_a_misspelled_flag_is_answered_with_the_flag_that_was_meant(capsys):
    assert cli.main(["train", "x", "--out", "y", "--train.epoch", "3"]) == 2
    assert "--train.epochs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (DataError("row 3 is odd. Mend it."), 2, "trcgl describe: row 3 is odd. Mend it."),
        (Interrupted(signal.SIGTERM, "saved"), 143, "trcgl describe: saved"),
        (KeyboardInterrupt(), 130, "interrupted; the same command again finishes"),
        (OSError(errno.ENOSPC, "No space left on device", "out.npy"), 2, "out.npy: No space left on device"),
        (ZeroDivisionError("x"), 1, "this is a defect of trcgl"),
    ],
)
def test_every_ending_has_its_exit_code_and_its_line(raised, code, message, pretend, capsys):
    def fail() -> Done:
        raise raised

    pretend(fail)
    assert cli.main(["describe"]) == code
    error = capsys.readouterr().err
    assert message in error
    assert ("Traceback" in error) == (code == 1)


def test_sigterm_ends_the_work_with_143_and_cleans_up(pretend, tmp_path):
    cleaned = tmp_path / "cleaned"

    def wait() -> Done:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        finally:
            cleaned.touch()
        return Done({}, "")

    before = signal.getsignal(signal.SIGTERM)
    pretend(wait)
    assert cli.main(["describe"]) == 143
    assert cleaned.exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_json_prints_one_object_and_nothing_else_on_stdout(pretend, capsys):
    result = {"images": 3, "groups": {"tail": ["Hernia"]}}

    def answer(*, flag: int = 0) -> Done:
        return Done({**result, "flag": flag}, "three images")

    pretend(answer)
    assert cli.main(["describe", "--json", "--flag", "2"]) == 0
    assert json.loads(capsys.readouterr().out) == {**result, "flag": 2}
    assert cli.main(["describe"]) == 0
    assert capsys.readouterr().out == "three images\n"


def test_a_path_that_is_not_utf_8_is_printed(pretend, capsys):
    path = os.fsdecode(b"M\xfcller")
    pretend(lambda: Done({"out": path}, path))
    assert cli.main(["describe"]) == 0
    assert capsys.readouterr().out == "M\\udcfcller\n"
    assert cli.main(["describe", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"out": path}


def test_a_verb_may_go_on_after_its_result_is_printed_until_it_is_stopped(pretend, capsys):
    def go_on() -> None:
        assert capsys.readouterr().out == "there\n"
        raise Interrupted(15, "stopped.")

    pretend(lambda: Done({}, "there", go_on))
    assert cli.main(["describe"]) == 143
    assert "stopped." in capsys.readouterr().err


def test_a_reader_who_has_seen_enough_is_no_defect():
    code = (
        "import sys; from trcgl.cli import main as cli, verb; talk = lambda: verb.Done({}, 'line\\n' * 100000); "
        "cli.VERBS['describe'] = verb.Verb('', '', lambda arguments: (talk, arguments, None)); "
        "sys.exit(cli.main(['describe']))"
    )
    done = subprocess.run(
        ["bash", "-c", 'python=$1; "$python" -c "$2" | head -1; exit ${PIPESTATUS[0]}', "-", sys.executable, code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGPIPE, "line\n", "")


def test_a_recipe_field_is_overridden_by_its_path(monkeypatch, capsys):
    import trcgl.training.train as stage

    monkeypatch.setattr(
        stage, "train", lambda dataset, recipe, out, synthetic: {"name": recipe.name, **vars(recipe.train)}
    )
    given = ["train", "d", "--recipe", "nih_mini", "--out", "r", "--train.epochs", "5", "--train.batch_size=7"]
    assert cli.main([*given, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["name"], result["epochs"], result["batch_size"]) == ("nih_mini", 5, 7)
    assert result["ema"] == RECIPES["nih_mini"]().train.ema


@pytest.mark.parametrize("option", ["--loss.gamma-negative", "--loss.settings.gamma-negative"])
def test_the_settings_of_a_loss_are_options_under_both_spellings(option, monkeypatch, capsys):
    import trcgl.training.train as stage

    monkeypatch.setattr(
        stage, "train", lambda dataset, recipe, out, synthetic: {"loss": recipe.loss.name, **vars(recipe.loss.settings)}
    )
    given = ["train", "d", "--recipe", "phantom", "--out", "r", "--loss.name", "asl", option, "3", "--json"]
    assert cli.main(given) == 0
    captured = capsys.readouterr()
    settings = {"gamma_negative": 3.0, "gamma_positive": 0.0, "clip": 0.05, "constant_focus": True}
    assert json.loads(captured.out) == {"loss": "asl", **settings}
    assert ("is now called --loss.settings.gamma-negative" in captured.err) == (option == "--loss.gamma-negative")


def test_the_help_lists_the_settings_of_the_named_loss(capsys):
    assert cli.main(["train", "--loss.name", "focal", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--loss.settings.focal-gamma" in text and "--loss.settings.clip" not in text


def test_an_unknown_loss_gets_a_suggestion(capsys):
    assert cli.main(["train", "d", "--out", "r", "--loss.name", "focl"]) == 2
    assert "unknown loss.name 'focl'. Did you mean focal?" in capsys.readouterr().err


def test_a_stored_recipe_is_a_recipe(monkeypatch, tmp_path, capsys):
    import trcgl.training.train as stage
    from trcgl.core.recipe import to_json

    stored = tmp_path / "recipe.json"
    stored.write_text(to_json(RECIPES["trcgl_paper"]()))
    monkeypatch.setattr(
        stage, "train", lambda dataset, recipe, out, synthetic: {"same": recipe == RECIPES["trcgl_paper"]()}
    )
    assert cli.main(["train", "d", "--recipe", str(stored), "--out", "r", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"same": True}
