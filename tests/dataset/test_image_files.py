import os
import unicodedata

import pytest

from trcgl.dataset.image_files import ImageFiles


def files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return ImageFiles(root)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a/x.png", "a/x.png"),
        ("./a/x.png", "a/x.png"),
        ("x.png", "a/x.png"),
        ("x", "a/x.png"),
        ("b/x.png", "a/b/x.png"),
        ("img\\x.png", "img/x.png"),
        ("x.png", "img/x.PNG"),
        ("X.png", "img/x.png"),
        ("IMG/x.png", "img/x.png"),
        (unicodedata.normalize("NFC", "Müller.png"), unicodedata.normalize("NFD", "Müller.png")),
        (unicodedata.normalize("NFD", "Müller"), unicodedata.normalize("NFC", "a/Müller.dcm")),
        ("lead.png", " lead.png"),
        ("1.2.840.2", "series/1.2.840.2"),
    ],
)
def test_a_file_is_found_by_its_name_however_it_is_spelled(tmp_path, name, file):
    assert files(tmp_path, file).find(name) == (file, None)


def test_the_spelling_of_the_table_comes_first(tmp_path):
    found = files(tmp_path, "a/x.png", "b/X.png")
    assert found.find("x.png") == ("a/x.png", None)
    assert found.find("X.png") == ("b/X.png", None)


def test_a_name_that_fits_several_files_is_not_found_and_says_so(tmp_path):
    found = files(tmp_path, "a/x.png", "b/x.png", "b/y.png", "b/y.dcm")
    assert found.find("x.png") == ("x.png", "several files fit (such as a/x.png, b/x.png). Write the path below --root")
    assert "b/y.dcm, b/y.png" in found.find("y")[1]


def test_a_wrong_folder_names_the_right_one(tmp_path):
    assert "elsewhere (such as images/x.png)" in files(tmp_path, "images/x.png").find("scans/x.png")[1]
    assert ImageFiles(tmp_path).find("z.png") == ("z.png", "no such file")


def test_linked_folders_are_followed_once(tmp_path):
    files(tmp_path / "store", "x.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "images").symlink_to("../store")
    (tmp_path / "store" / "again").symlink_to("..")
    assert ImageFiles(tmp_path / "root").find("x.png") == ("images/x.png", None)


def test_pipes_hidden_files_and_impossible_names_are_not_files(tmp_path):
    found = files(tmp_path, "a/._x.png")
    os.mkfifo(tmp_path / "a" / "x.png")
    assert found.find("x.png") == ("x.png", "no such file")
    assert found.find("x" * 5000)[1] == "no such file"
