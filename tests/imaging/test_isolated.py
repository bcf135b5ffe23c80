"""Answers from a process that may crash or hang."""

import io
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from tests.imaging.dicom_files import dicom
from trcgl.core.errors import DataError, TooLarge, UnreadableImage
from trcgl.imaging import file_process
from trcgl.imaging.file_process import FileProcess
from trcgl.imaging.isolated import IsolatedProcess
from trcgl.imaging.limits import Limits
from trcgl.imaging.radiograph import fit_square, read_radiograph


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


def test_a_file_in_memory_is_read_like_one_on_disk_with_its_preview(process, picture):
    content, shapes = picture.read_bytes(), [(16, "letterbox"), (24, "squash")]
    read = process.read_content(content, "it", shapes, limits=Limits(), preview=25)
    on_disk = process.read(picture, shapes)
    for in_memory, other in zip(read.pictures, on_disk.pictures, strict=True):
        np.testing.assert_array_equal(in_memory, other)
    assert (
        read.placements
        == on_disk.placements
        == tuple(fit_square(np.zeros((50, 40), np.uint8), *shape)[1] for shape in shapes)
    )
    assert (read.kind, read.original_size, on_disk.preview) == ("png", (50, 40), None)
    assert Image.open(io.BytesIO(read.preview)).size == (20, 25)


def test_reasons_say_nothing_that_stands_in_a_file(process, tmp_path):
    process.seconds = 60.0  # the first DICOM file waits for pydicom
    content = dicom(np.eye(8, dtype=np.uint16), WindowCenter="1", WindowWidth="1")
    broken = content.replace(b"MONOCHROME2", b"Noether^Amy")
    with pytest.raises(UnreadableImage, match=r"^it: (?!.*Noether)"):
        process.read_content(broken, "it", [(16, "letterbox")], limits=Limits())
    named = tmp_path / "named.dcm"
    named.write_bytes(dicom(np.eye(8, dtype=np.uint16), NumberOfFrames="12345678").replace(b"12345678", b"Doe^John"))
    for read in (lambda: process.read(named, [(16, "letterbox")]), lambda: read_radiograph(named)):
        with pytest.raises(UnreadableImage) as refused:
            read()
        remedy = "Copy it again from the archive."
        assert str(refused.value) == f"{named}: NumberOfFrames (0028,0008) is no number. {remedy}"
    with pytest.raises(UnreadableImage, match=r"^it: PixelData \(7FE0,0010\) has 108 bytes"):
        process.read_content(content[:-20], "it", [(16, "letterbox")], limits=Limits())
    with pytest.raises(TooLarge, match="8 x 8 pixels, more than the limit of 60"):
        process.read_content(content, "it", [(16, "letterbox")], limits=Limits(pixels=60))
    assert process.read_content(content, "it", [(16, "letterbox")], limits=Limits()).kind == "dicom"


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


def test_a_reader_whose_own_process_cannot_be_started_blames_no_file(process, picture, monkeypatch):
    def fails(*_, **__):
        raise DataError("a process for decoding cannot be started")

    monkeypatch.setattr(file_process, "read_bytes", fails)
    answer = file_process._answer(json.dumps({"shapes": [], "path": str(picture), "accept": []}).encode())
    monkeypatch.setattr(process, "ask", lambda _: answer)
    with pytest.raises(DataError, match="cannot be started"):
        process.read(picture, [(16, "letterbox")])


def test_a_machine_without_room_for_a_process_is_no_fault_of_the_file(process, picture, monkeypatch):
    def fails(*_, **__):
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", fails)
    with pytest.raises(DataError, match="cannot be started"):
        process.read(picture, [(16, "letterbox")])


def test_closing_kills_what_the_process_does(process, picture):
    process.read(picture, [(16, "letterbox")])
    child = process._process
    process.close()
    assert child.wait(60) != 0


def test_modules_of_the_current_folder_are_not_run(process, picture, tmp_path, monkeypatch):
    (tmp_path / "struct.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert process.read(picture, [(16, "letterbox")]).kind == "png"


def test_the_answer_to_a_question_that_was_broken_off_is_not_given_to_the_next(process, picture, tmp_path):
    other = tmp_path / "other.png"
    stripes = np.repeat(np.array([[77, 78]], np.uint8), 16, axis=0).repeat(8, axis=1)
    Image.fromarray(stripes).save(other)
    process.start()
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patched:
        patched.setattr("trcgl.imaging.isolated._receive", _interrupted)
        process.read(picture, [(16, "letterbox")])
    np.testing.assert_array_equal(process.read(other, [(16, "letterbox")]).pictures[0], stripes)


def _interrupted(stream):
    raise KeyboardInterrupt


def test_a_closed_process_leaves_no_open_file(process, picture):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        process.read(picture, [(16, "letterbox")])
        process.close()
    assert len(os.listdir("/proc/self/fd")) == before
    process.close()  # nothing is left to do


def test_closing_ends_a_question_in_work(process, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    process.start()
    threading.Timer(0.5, process.close).start()
    with pytest.raises(UnreadableImage, match="its decoder crashed"):
        process.read(tmp_path / "pipe", [(16, "letterbox")])
    assert process.pid is None


def test_a_hanging_process_ends_in_time_when_its_parent_was_killed(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code = (
        "import sys; from pathlib import Path; from trcgl.imaging.file_process import FileProcess;"
        "FileProcess(2.0).read(Path(sys.argv[1]), [])"
    )
    with subprocess.Popen([sys.executable, "-c", code, pipe], stderr=subprocess.DEVNULL) as parent:
        question = os.open(pipe, os.O_WRONLY)  # waits until the process reads
        parent.kill()
    try:
        with pytest.raises(BrokenPipeError):  # nobody reads any more
            for _ in range(200):
                os.write(question, b"x")
                time.sleep(0.1)
    finally:
        os.close(question)
