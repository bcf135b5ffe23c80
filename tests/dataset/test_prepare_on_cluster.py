"""`prepare` on a Dask cluster of two processes: the bytes of one machine, also if a worker is killed."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clusters import killing_a_worker, two_workers
from trcgl.core import cluster as clusters
from trcgl.core.errors import DataError
from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.sources import phantom
from trcgl.dataset.sources.table import Options
from trcgl.dataset.store import open_dataset
from trcgl.imaging import decode

COLUMNS = Options(finding_columns=("A",))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Eighty radiographs, one of them damaged and one missing."""
    root = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(0)
    lines = ["image,patient,A", "gone.png,p,0"]
    for number in range(79):
        lines.append(f"{number}.png,p{number // 2},{number % 2}")
        Image.fromarray(rng.integers(0, 255, (400, 400), dtype=np.uint8)).save(root / f"{number}.png")
    (root / "5.png").write_bytes(b"not a radiograph")
    (root / "labels.csv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def address():
    with two_workers() as address:
        yield address


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(decode, "ROWS_PER_PART", 8)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_a_killed_worker_changes_no_byte(archive, address, tmp_path):
    prepare("table", archive, tmp_path / "alone", PrepareOptions(size=64, workers=1, name="scans"), COLUMNS)
    parts = tmp_path / "shared" / "parts"
    with killing_a_worker(address, lambda: any(parts.glob("part-*"))) as killed:
        options = PrepareOptions(size=64, cluster=address, name="scans")
        prepare("table", archive, tmp_path / "shared", options, COLUMNS)
    assert killed
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
    assert open_dataset(tmp_path / "shared").manifest.height == 78


def test_phantoms_are_rendered_on_the_workers(address, tmp_path):
    source = phantom.Options(train_images=10, positives_per_finding=1, size=64)
    for name, options in (("alone", PrepareOptions(size=64)), ("shared", PrepareOptions(size=64, cluster=address))):
        prepare("phantom", None, tmp_path / name, options, source)
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_a_relative_root_is_the_folder_of_the_command(archive, address, tmp_path, monkeypatch):
    monkeypatch.chdir(archive.parent)
    prepare("table", Path(archive.name), tmp_path / "out", PrepareOptions(size=16, cluster=address), COLUMNS)
    assert (tmp_path / "out" / "dataset.json").exists()


def test_an_archive_that_workers_do_not_see_is_refused(archive, address, tmp_path, monkeypatch):
    exists = os.path.exists
    gone = archive / "gone.png"
    monkeypatch.setattr(clusters.os.path, "exists", lambda path: path == gone or exists(path))  # here, not there
    with pytest.raises(DataError, match=r"gone\.png: the worker on \S+ does not see this file"):
        prepare("table", archive, tmp_path / "out", PrepareOptions(size=16, cluster=address), COLUMNS)
    assert not (tmp_path / "out" / "dataset.json").exists()
