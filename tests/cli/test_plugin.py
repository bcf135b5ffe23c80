"""`--plugin FILE.py` registers heads, losses and recipes of the user for every verb."""

import importlib
import json
import subprocess
import sys

import pytest

from trcgl.cli import main as cli
from trcgl.core.loss_settings import SETTINGS
from trcgl.core.plugin import LOADED
from trcgl.model.heads import HEADS
from trcgl.recipes import GENERATORS, RECIPES
from trcgl.training.losses import LOSSES

PLUGIN = '''
from dataclasses import dataclass

from torch import nn

from trcgl.core.loss_settings import LossSettings
from trcgl.core.recipe import LossRecipe, Recipe, overridden
from trcgl.model.heads import Head, HeadOutput, register_head
from trcgl.recipes import RECIPES, register_recipe
from trcgl.training.losses import Loss, register_loss


class MaxHead(Head):
    def __init__(self, width, recipe, labels):
        super().__init__(width, recipe, labels)
        self.classifier = nn.Linear(width, labels.findings)

    def forward(self, feature):
        return HeadOutput(self.classifier(feature.amax((2, 3))), None)


@dataclass(frozen=True)
class PowerSettings(LossSettings):
    power: float = 2.0
    """Power of the error."""


class PowerLoss(Loss):
    Settings = PowerSettings

    def __init__(self, settings, positives, rows):
        super().__init__(settings, positives, rows)
        self.power = settings.power

    def forward(self, logits, target):
        return (logits.float().sigmoid() - target).abs() ** self.power


def mine() -> Recipe:
    """The phantom recipe with a head and a loss of my own.

        trcgl train phantom --plugin mine.py --recipe mine --out run
    """
    return overridden(RECIPES["phantom"](), {"name": "mine", "model.head": "max", "loss.name": "power"})


register_head("max", MaxHead)
register_loss("power", PowerLoss)
register_recipe("mine", mine)
'''


@pytest.fixture
def plugin(tmp_path):
    """The file; what it registers is forgotten afterwards."""
    registries = (HEADS, LOSSES, SETTINGS, RECIPES, GENERATORS)
    before = [dict(registry) for registry in registries]
    path = list(sys.path)
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    importlib.invalidate_caches()
    yield file
    sys.modules.pop("mine", None)
    sys.path[:] = path
    LOADED.clear()
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


def test_a_recipe_a_head_and_a_loss_of_a_plugin_are_used(plugin, monkeypatch, capsys):
    import trcgl.training.train as stage

    monkeypatch.setattr(
        stage,
        "train",
        lambda dataset, recipe, out, synthetic: {"head": recipe.model.head, **vars(recipe.loss.settings)},
    )
    given = ["train", "d", "--plugin", str(plugin), "--recipe", "mine", "--out", "r", "--loss.settings.power", "3"]
    assert cli.main([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"head": "max", "power": 3.0}


def test_the_help_shows_the_recipes_and_settings_of_a_plugin(plugin, capsys):
    assert cli.main(["train", f"--plugin={plugin}", "--recipe", "mine", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Example: trcgl train phantom --plugin mine.py --recipe mine")
    assert "--loss.settings.power" in text and "Power of the error." in text


@pytest.mark.slow
def test_the_worker_processes_of_a_study_know_the_plugin(plugin):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from trcgl.core.plugin import load_plugin\n"
        "from trcgl.study.runner import run_apart\n"
        "def known(settings, sender):\n"
        "    from trcgl.model.heads import HEADS\n"
        "    sys.exit(0 if 'max' in HEADS and settings.power == 2 else 3)\n"
        "if __name__ == '__main__':\n"
        "    load_plugin(Path(sys.argv[1]))\n"
        "    import mine\n"
        "    run_apart(known, mine.PowerSettings(), 'the plugin in a worker process')\n"
    )
    script = plugin.with_name("script.py")
    script.write_text(code)
    done = subprocess.run([sys.executable, script, plugin], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_plugin_with_the_name_of_a_module_is_refused(plugin, capsys):
    other = plugin.rename(plugin.with_name("json.py"))
    assert cli.main(["doctor", "--plugin", str(other)]) == 2
    assert "another module is named json. Rename the file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_package", "mine.py: line 1: ModuleNotFoundError: No module named 'no_such_package'"),
        ("x = 1\nx.y", "mine.py: line 2: AttributeError: 'int' object has no attribute 'y'"),
        ("def broken(:", "mine.py: line 1: SyntaxError"),
        ("from trcgl.recipes import RECIPES, register_recipe\nregister_recipe('nih', RECIPES['nih'])", "is built in"),
        ("from trcgl.recipes import register_recipe\nregister_recipe('odd', dict)", "returns dict, not a Recipe"),
    ],
)
def test_a_plugin_that_fails_is_named_with_the_cause(code, message, plugin, capsys):
    plugin.write_text(code)
    assert cli.main(["doctor", "--plugin", str(plugin)]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(("given", "message"), [(["gone.py"], "gone.py: no such file"), ([], "--plugin needs a value")])
def test_a_missing_plugin_is_refused(given, message, capsys):
    assert cli.main(["doctor", "--plugin", *given]) == 2
    assert message in capsys.readouterr().err
