"""The guides: their `console` blocks run from the first command to the last, on little data and in small networks."""

import re
import shlex
import sys

import pytest

from tests.documented import ROOT, commands
from tests.model.small_run import study_file
from trcgl.cli import main as cli

GUIDES = ROOT / "docs" / "guide"
FAST = ("newcomer", "hospital")
SLOW = ("researcher", "reviewer")  # they hold a study

NETWORK = {
    "--model.image-size": ["32"],
    "--train.epochs": ["1"],
    "--train.accelerator": ["cpu"],
    "--train.devices": ["1"],
    "--train.precision": ["32-true"],
    "--evaluate.replicates": ["100"],
}
TARGETS = ["calcified densities", "hyperinflated lung"]
SMALL = {
    "prepare": {"--size": ["32"], "--workers": ["1"]},
    "prepare phantom": {
        "--source.size": ["32"],
        "--source.train-images": ["120"],
        "--source.positives-per-finding": ["2"],
    },
    "train": NETWORK,
    "train-generator": {
        "--image-size": ["32"],
        "--fit.steps": ["2"],
        "--fit.context-steps": ["1"],
        "--fit.grid-every": ["0"],
        "--fit.accelerator": ["cpu"],
    },
    "synthesize": {
        "--dose": None,
        "--each": ["3"],
        "--steps": ["2"],
        "--targets": TARGETS,
        "--devices": ["1"],
        "--accelerator": ["cpu"],
        "--screener": None,
        "--unscreened": [],
    },
    "audit": {"--each": ["3"], "--sweep-each": ["0"], "--handwritten-each": ["0"]},
    "study": {**NETWORK, "--train.epochs": ["2"], "--seeds": ["1"]},  # one with drawn images, one with real ones
    "predict": {"--workers": ["1"]},
    "export": {"--no-onnx": []},
}
"""Verb, or verb and source, to the flags that make it small; None takes a flag away."""

BACKBONE = {"--model.backbone": ["test_convnext"], "--model.weights": ["none"], "--train.batch-size": ["8"]}
"""For recipes that start from weights of the hub."""


@pytest.mark.parametrize("guide", [*FAST, *(pytest.param(guide, marks=pytest.mark.slow) for guide in SLOW)])
def test_a_guide_runs_and_what_it_tells_to_open_is_there(guide, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if guide == "hospital":
        write_hospital(tmp_path)
    for typed in commands(GUIDES / f"{guide}.md", kind="console"):
        arguments = made_small(shlex.split(typed)[1:])
        monkeypatch.setattr(sys, "argv", ["trcgl", *arguments])
        assert cli.main(arguments) == 0, typed
    told = re.findall(r"`((?!trcgl-demo/)[\w-]+/[\w/.-]+\.(?:html|json))`", (GUIDES / f"{guide}.md").read_text())
    assert len(told) >= 2
    for path in told:
        assert (tmp_path / path).is_file(), path


def test_every_guide_for_a_user_is_run():
    every = {page.stem for page in GUIDES.glob("*.md")}
    assert {guide for guide in every if list(commands(GUIDES / f"{guide}.md", kind="console"))} == {*FAST, *SLOW}


def made_small(arguments):
    """The command with its flags replaced by those that make it small."""
    verb = arguments[0]
    settings = {**SMALL.get(verb, {}), **SMALL.get(" ".join(arguments[:2]), {})}
    if "--recipe trcgl" in " ".join(arguments):
        settings |= BACKBONE
    kept, skipping = [], False
    for argument in arguments:
        skipping = argument in settings or (skipping and not argument.startswith("--"))
        kept += [] if skipping else [argument]
    return kept + [part for flag, values in settings.items() if values is not None for part in (flag, *values)]


def write_hospital(folder):
    """Thirty DICOM files of as many patients in a tree of folders, their table, and three new files of two studies."""
    (folder / "HOSPITAL" / "sub").mkdir(parents=True)
    rows = ["file,patient,findings"]
    for number in range(30):
        findings = ("Effusion|Nodule", "No Finding", "Nodule", "Effusion")[number % 4]
        name = f"{'sub/' if number % 3 else ''}{number:04d}.dcm"
        (folder / "HOSPITAL" / name).write_bytes(study_file(number, number))
        rows.append(f"{name},p{number},{findings}")
    (folder / "HOSPITAL" / "labels.csv").write_text("\n".join(rows))
    (folder / "new-scans").mkdir()
    for image, study in ((1, 101), (2, 101), (3, 102)):
        (folder / "new-scans" / f"{image}.dcm").write_bytes(study_file(image, study))
