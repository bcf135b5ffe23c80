"""The Python page and the quickstart notebook run as they are shown."""

import json
import re

import pytest

import trcgl
from tests.documented import ROOT
from trcgl.core.loss_settings import SETTINGS
from trcgl.model.heads import HEADS
from trcgl.training.losses import LOSSES

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
NOTEBOOK = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder, and forget afterwards what the examples register."""
    monkeypatch.chdir(tmp_path)
    registries = (HEADS, LOSSES, SETTINGS)
    before = [set(registry) for registry in registries]
    yield tmp_path
    for registry, names in zip(registries, before, strict=True):
        for name in set(registry) - names:
            del registry[name]


def test_the_python_page_names_everything_that_is_public():
    table = PAGE.partition("## ")[0]
    assert all(f"`{name}`" in table for name in trcgl.__all__ if name != "__version__")


def test_the_blocks_of_the_python_page_run_from_top_to_bottom(elsewhere):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 8
    names = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"python.md, block {number}", "exec"), names)
    assert [type(prediction).__name__ for prediction in names["several"]] == ["Prediction"] * 3


def test_the_quickstart_notebook_runs_and_is_short(elsewhere):
    cells = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert sum(bool(line.strip()) for cell in cells for line in cell.splitlines()) < 40
    assert all(not cell.get("outputs") for cell in NOTEBOOK["cells"])
    names = {}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"quickstart.ipynb, code cell {number}", "exec"), names)
    assert names["result"]["overall"]["mAUC"]["ci"]
    assert (elsewhere / "quickstart" / "run" / "report.html").is_file()
