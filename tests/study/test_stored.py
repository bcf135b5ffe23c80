"""Studies of 0.1.0 are read, and continued, under the names of this version."""

import json
from pathlib import Path

import pytest

from trcgl.study import tables
from trcgl.study.stored import path_in, read_stored, translate

RESULTS = Path(__file__).parents[2] / "docs" / "results"
STORED = sorted(path.parent.name for path in RESULTS.glob("*/table.json"))


@pytest.mark.parametrize("name", STORED)
def test_a_stored_table_is_shown_as_the_page_beside_it(name):
    document = read_stored(RESULTS / name / "table.json")
    assert tables.markdown(document) == (RESULTS / name / "table.md").read_text(encoding="utf-8")
    assert tables.csv(document) == (RESULTS / name / "table.csv").read_text(encoding="utf-8")
    shown = (RESULTS / name / "table.md").read_text(encoding="utf-8")
    assert "drawn" not in shown and "_sampler" not in shown


def numbers(value):
    if isinstance(value, dict | list):
        return [number for item in (value.values() if isinstance(value, dict) else value) for number in numbers(item)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.parametrize("name", STORED)
def test_a_translation_keeps_every_number(name):
    stored = json.loads((RESULTS / name / "table.json").read_text(encoding="utf-8"))
    assert numbers(translate(stored)) == numbers(stored)


@pytest.mark.parametrize(
    ("stored", "current"),
    [
        ("drawn_mix_0.25 - duplicated_mix_0.25", "synthetic_mix_0.25 - duplicated_mix_0.25"),
        ("up_to_sampler", "up_to_row_sampling"),
        ("without_sampler", "without_row_sampling"),
        ("redrawn/gap/AP", "counterfactual/gap/AP"),
        ("train.sampler: natural → repeat_factor", "train.row_sampling: natural → repeat_factor"),
        ("drawn_entropy_maximization", "synthetic_entropy_maximization"),
    ],
)
def test_names_are_translated(stored, current):
    assert translate(stored) == current == translate(current)


def test_folders_of_0_1_0_are_found_and_new_ones_get_new_names(tmp_path):
    assert path_in(tmp_path, "synthetic_mix_1").name == "synthetic_mix_1"
    for name in ("drawn_mix_1", "without_sampler", "copies"):
        (tmp_path / name).mkdir()
    found = [path_in(tmp_path, name).name for name in ("synthetic_mix_1", "without_row_sampling", "duplicates")]
    assert found == ["drawn_mix_1", "without_sampler", "copies"]
