"""Answers from a process that may crash or hang."""

import os
import time

import numpy as np
import pytest
from PIL import Image

from trcgl.core.errors import DataError, UnreadableImage
from trcgl.data.file_process import FileProcess
from trcgl.data.isolated import IsolatedProcess
from trcgl.data.radiograph import read_radiograph


@pytest.fixture
def process():
    process = FileProcess(6.0)
    yield process
    process.close()


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 40), dtype=np.uint8)).save(path)
    return path


def test_a_file_is_read_once_in_several_shapes_as_it_is_read_here(process, picture):
    read = process.read(picture, [(16, "letterbox"), (24, "squash")])
    for pixels, (size, fit) in zip(read.pictures, [(16, "letterbox"), (24, "squash")], strict=True):
        np.testing.assert_array_equal(pixels, read_radiograph(picture, size=size, fit=fit).pixels)
    assert read.study is None


def test_a_reason_names_the_file_and_the_next_file_is_read(process, picture, tmp_path):
    (tmp_path / "b.txt").write_text("no picture")
    with pytest.raises(UnreadableImage, match=r"b\.txt: not a PNG, JPEG or DICOM file"):
        process.read(tmp_path / "b.txt", [(16, "letterbox")])
    assert process.read(picture, [(16, "letterbox")]).pictures[0].shape == (16, 16)


def test_a_hanging_file_ends_in_time_and_the_next_one_is_read(process, picture, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    started = time.monotonic()
    with pytest.raises(UnreadableImage, match="took more than 6 s"):
        process.read(tmp_path / "pipe", [(16, "letterbox")])
    assert time.monotonic() - started < 60
    assert process.read(picture, [(16, "letterbox")]).pictures[0].any()


def test_a_process_that_cannot_be_started_is_no_fault_of_the_file():
    with pytest.raises(DataError, match=r"trcgl\.no_such_module\) cannot be started"):
        IsolatedProcess("trcgl.no_such_module", 6.0).ask(b"")


def test_closing_kills_what_the_process_does(process, picture):
    process.read(picture, [(16, "letterbox")])
    child = process._process
    process.close()
    assert child.wait(60) != 0
