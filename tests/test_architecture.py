"""Rules of the house that no linter checks."""

import pkgutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import trcgl

PACKAGE = Path(trcgl.__file__).parent
NEEDS_TORCH = (
    "trcgl.api",
    "trcgl.model",
    "trcgl.training",
    "trcgl.evaluate.common_target",
    "trcgl.evaluate.ensemble",
    "trcgl.evaluate.evaluate",
    "trcgl.evaluate.localize",
    "trcgl.export",
    "trcgl.generate",
    "trcgl.predict",
    "trcgl.serve",
    "trcgl.doctor",
    "trcgl.audit",
    "trcgl.study.experiments.dcgan",
)


def test_a_file_holds_one_idea_in_fewer_than_400_lines():
    long = [path.name for path in PACKAGE.rglob("*.py") if len(path.read_text(encoding="utf-8").splitlines()) >= 400]
    assert not long


def test_what_needs_no_network_imports_no_torch():
    names = [
        module.name
        for module in pkgutil.walk_packages([str(PACKAGE)], "trcgl.")
        if not module.name.startswith(NEEDS_TORCH)
    ]
    names.remove("trcgl.__main__")
    assert len(names) > 50
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    code += "    if 'torch' in sys.modules or 'lightning' in sys.modules:\n        sys.exit(name)"
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_warning_raised_in_trcgl_fails_a_test():
    with pytest.raises(UserWarning, match="odd"):
        warnings.warn_explicit("odd", UserWarning, "train.py", 1, module="trcgl.training.train")
