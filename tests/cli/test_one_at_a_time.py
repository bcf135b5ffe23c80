"""A second command for a folder that another one writes is refused, by every verb that writes a folder."""

import os
from contextlib import contextmanager
from shutil import copytree

import numpy as np
import pytest
from PIL import Image

from tests.dataset.small_dataset import write_dataset
from trcgl.cli import main as cli
from trcgl.core.lock import LOCK, locked, locked_by
from trcgl.core.recipe import Recipe, to_json

SMALL = "--image-size 32 --unet.widths 16 32 --unet.head-width 8 --fit.devices 1"
COMMANDS = {
    "prepare": "prepare phantom --out {out} --source.train-images 60 --source.positives-per-finding 2",
    "train": "train {dataset} --recipe phantom --out {out} --train.devices 1",
    "train-generator": f"train-generator {{dataset}} --recipe generator_phantom --out {{out}} {SMALL}",
    "explain": "explain {run} {scan} --out {out}",
    "gallery": "explain {run} {dataset} --out {out}",
    "export": "export {run} --out {out} --no-onnx",
    "evaluate": "evaluate {run} --no-localization",
    "demo": "demo --out {out}",
}


@contextmanager
def held(verb, folder):
    beside = folder.with_name(f".{folder.name}{LOCK}")
    with locked_by(beside, folder) if verb == "export" else locked(folder):
        yield


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_second_command_for_the_same_folder_is_refused_and_writes_nothing(verb, evaluated, tmp_path, capsys):
    scan, dataset = tmp_path / "scan.png", write_dataset(tmp_path / "data")
    Image.fromarray(np.eye(32, dtype=np.uint8)).save(scan)
    folder = tmp_path / "out"
    if verb == "evaluate":
        folder = evaluated = copytree(evaluated, evaluated.with_name("run-with-recipe"))
        (folder / "recipe.json").write_text(to_json(Recipe()), encoding="utf-8")
    arguments = COMMANDS[verb].format(out=folder, dataset=dataset, run=evaluated, scan=scan).split()
    with held(verb, folder):
        before = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        assert cli.main(arguments) == 2
        assert (sorted(path.name for path in folder.iterdir()) if folder.exists() else []) == before
    message = f"{folder}: process {os.getpid()} on "
    assert message in capsys.readouterr().err
