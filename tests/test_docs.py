"""What the documentation promises."""

import functools
import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.documented import PAGES, ROOT, commands
from trcgl.cli import main as cli
from trcgl.cli.main import VERBS
from trcgl.cli.verb import Done, Verb
from trcgl.model.heads import HEADS

DOCUMENTED = [(page.name, typed) for page in PAGES for typed in commands(page)]


@pytest.mark.parametrize(("page", "typed"), DOCUMENTED, ids=[f"{page}: {typed}" for page, typed in DOCUMENTED])
def test_a_documented_command_is_understood(page, typed, monkeypatch):
    reached = []

    def instead(choose):
        def chosen(arguments):
            command, rest, example = choose(arguments)

            @functools.wraps(command)
            def reach(*args, **settings):
                reached.append(typed)
                return Done({}, "")

            return reach, rest, example

        return chosen

    for name, verb in VERBS.items():
        monkeypatch.setitem(VERBS, name, Verb(verb.what, verb.example, instead(verb.choose)))
    assert cli.main(shlex.split(typed.split(" > ")[0], comments=True)[1:]) == 0
    assert reached == [typed]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "results"], ids=lambda page: page.name)
def test_every_heading_that_is_linked_is_there(page):
    for target, name in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)", page.read_text(encoding="utf-8")):
        other = page.parent / target if target else page
        headings = re.findall(r"^#+ (.*)$", other.read_text(encoding="utf-8"), re.MULTILINE)
        assert name in {anchor(heading) for heading in headings}, f"{target}#{name}"


def anchor(heading):
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("**/*.md")), ids=lambda page: page.name)
def test_the_index_leads_to_every_page(page):
    below = page.relative_to(ROOT / "docs").as_posix()
    if below != "index.md" and len(page.relative_to(ROOT / "docs").parts) <= 2:
        assert f"({below})" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_in_the_table_of_the_model_page(head):
    assert f"\n| `{head}` |" in (ROOT / "docs" / "model.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page_of_its_name_that_the_index_links(verb):
    assert (ROOT / "docs" / f"{verb}.md").exists()
    assert f"({verb}.md)" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def test_the_command_reference_holds_the_help_of_every_verb_and_names_every_head():
    code = "import sys; import generate_commands; sys.stdout.buffer.write(generate_commands.page().encode())"
    terminal = {"COLUMNS": "60", "FORCE_COLOR": "1", "PYTHONPATH": str(ROOT / "docs")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=os.environ | terminal)
    page = done.stdout.decode()
    assert all(f"\n$ trcgl {verb} --help\n" in page for verb in VERBS)
    assert all(f"`{head}`" in page for head in HEADS)


def test_the_front_table_is_what_the_results_say():
    code = "import sys; import generate_results; sys.stdout.buffer.write(generate_results.readme().encode())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "docs")},
    )
    assert done.stdout.decode() == (ROOT / "README.md").read_text(encoding="utf-8"), "run `make docs`"
