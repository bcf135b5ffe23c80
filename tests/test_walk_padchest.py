"""The commands of the PadChest guide, on a few hundred generated files with names and labels of the real table."""

import importlib.util
import shlex
import sys
import zipfile
from pathlib import Path

import polars as pl
import pytest

from tests.dataset.source_fixtures import radiograph
from tests.dataset.source_fixtures.cxr_lt_2026 import write_csv
from tests.documented import ROOT, commands
from tests.generate.test_folder import base_pipeline
from trcgl.cli import main as cli
from trcgl.dataset.labels import phrase
from trcgl.dataset.sources.padchest_findings import SPACE

PAGE = ROOT / "docs" / "guide" / "padchest.md"
NETWORK = [
    *("--model.backbone", "test_convnext", "--model.weights", "none", "--model.image-size", "32"),
    *("--train.epochs", "1", "--train.batch-size", "16", "--train.precision", "32-true", "--train.warmup-steps", "1"),
    *("--train.accelerator", "cpu", "--train.devices", "1", "--train.logger", "none", "--evaluate.replicates", "20"),
]
SMALL = {
    "prepare": ["--size", "32", "--workers", "1"],
    "train": NETWORK,
    "evaluate": [],
    "train-generator": [
        *(
            "--base",
            "base",
            "--image-size",
            "32",
            "--fit.steps",
            "2",
            "--fit.context-steps",
            "1",
            "--fit.batch-size",
            "2",
        ),
        *("--fit.grid-every", "0", "--fit.accelerator", "cpu", "--fit.precision", "32-true"),
        *("--context.shared", "1", "--context.per-finding", "1", "--unet.lora-rank", "2"),
    ],
    "synthesize": [
        *("--each", "2", "--steps", "2", "--targets", "Hydropneumothorax", "azygos lobe"),
        *("--accelerator", "cpu", "--devices", "1"),
    ],
    "audit": ["--each", "2", "--sweep-each", "0", "--handwritten-each", "0"],
    "predict": ["--workers", "1"],
}
"""Verb to the flags that make its command small; a later flag wins over the same one of the page."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """PADCHEST/ with rows of the real table and generated files, CXRLT/ with a test list, and a small base."""
    found = importlib.util.find_spec("torchxrayvision")
    if found is None:
        pytest.skip("torchxrayvision, whose label table this reads, is not installed")
    (table,) = (Path(found.submodule_search_locations[0]) / "data").glob("PADCHEST_chest_x_ray_images_labels_160K_*")
    folder = tmp_path_factory.mktemp("walk")
    rows = chosen(pl.read_csv(table, infer_schema=False))
    (folder / "PADCHEST").mkdir()
    rows.write_csv(folder / "PADCHEST" / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv")
    for number, (image, place) in enumerate(rows.select("ImageID", "ImageDir").iter_rows()):
        radiograph(folder / "PADCHEST" / place / image, (40, 36), seed=number, bits=16)
    (folder / "CXRLT").mkdir()
    images = rows["ImageID"].to_list()
    write_csv(folder / "CXRLT" / "CXRLT_2026_TEST_ALL_TASK1.csv", [["ImageID"], *([image] for image in images[:20])])
    write_csv(folder / "CXRLT" / "Removal.csv", [["ImageID"], [images[20]]])
    (folder / "CXRLT" / "Train_CLASS.txt").write_text("\n".join(SPACE.findings))
    marks = [
        ["1" if any(f"'{name}'" in labels for name in SPACE.raw[finding]) else "0" for finding in SPACE.findings]
        for labels in rows["Labels"]
    ]
    lines = [[image, "20140915", "3.24E+38", *cells] for image, cells in zip(images[20:], marks[20:], strict=True)]
    header = ["ImageID", "StudyDate_DICOM", "PatientID", *SPACE.findings]
    write_csv(folder / "CXRLT" / "CXRLT_2026_training.csv", [header, *lines])
    texts = [f"frontal lateral chest radiograph with {phrase(finding)}, and" for finding in SPACE.findings]
    base_pipeline(longest=77, tokens=77, texts=texts).save_pretrained(folder / "base")
    return folder


def chosen(table):
    """About three hundred rows, most of them frontal, with patients of every finding."""
    labels = pl.col("Labels")
    frontal = table.filter(pl.col("Projection") == "PA")
    parts = [
        frontal.filter(pl.any_horizontal(labels.str.contains(f"'{name}'", literal=True) for name in names))
        .unique("PatientID", keep="first", maintain_order=True)
        .head(9)
        for names in SPACE.raw.values()
    ]
    parts.append(table.filter(pl.col("Projection") == "L", labels == "['normal']").head(20))
    return pl.concat(parts).unique("ImageID", keep="first", maintain_order=True)


def test_every_command_of_the_guide_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    typed = list(commands(PAGE, kind="sh"))
    assert {shlex.split(line)[1] for line in typed} == SMALL.keys()
    for line in typed:
        arguments = shlex.split(line)[1:]
        arguments += SMALL[arguments[0]]
        monkeypatch.setattr(sys, "argv", ["trcgl", *arguments])
        assert cli.main(arguments) == 0, line
    with zipfile.ZipFile(folder / "entry.zip") as entry:
        assert entry.read("submission.csv").count(b"\n") == 21
