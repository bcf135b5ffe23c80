"""What every recipe promises."""

import subprocess
import sys

import pytest

from trcgl.core.recipe import from_json, to_json
from trcgl.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_carries_its_own_name_and_survives_storage(name):
    recipe = RECIPES[name]()
    assert recipe.name == name
    assert from_json(to_json(recipe)) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_on_what_and_how_it_runs(name):
    text = RECIPES[name].__doc__
    assert f"--recipe {name}" in text
    for word in ("Data:", "Hardware:", "numbers"):
        assert word in text


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "trcgl_paper"])
def test_findings_are_lateralized_so_only_the_paper_flips(name):
    assert not RECIPES[name]().augment.horizontal_flip


def test_reading_recipes_imports_no_network_library():
    code = "import sys, trcgl.recipes; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'polars')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
