"""Parts of a long job: which are missing, and how they are removed."""

from trcgl.core.parts import Parts


def test_the_last_part_holds_the_remaining_items(tmp_path):
    parts = Parts(tmp_path, 10, 4)
    assert [list(parts.rows(part)) for part in range(len(parts))] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(Parts(tmp_path, 0, 4)) == 0


def test_parts_that_exist_are_not_missing(tmp_path):
    parts = Parts(tmp_path / "parts", 10, 4)
    assert parts.missing() == [0, 1, 2]
    parts.folder.mkdir()
    parts.path(1).touch()
    assert parts.missing() == [0, 2]


def test_clearing_removes_the_parts_and_nothing_else(tmp_path):
    parts = Parts(tmp_path / "parts", 10, 4)
    parts.clear()
    parts.folder.mkdir()
    for name in ("part-000001.npy", ".part-000002.npy.77.part", "notes.txt"):
        (parts.folder / name).touch()
    parts.clear()
    assert [path.name for path in parts.folder.iterdir()] == ["notes.txt"]
    (parts.folder / "notes.txt").unlink()
    parts.clear()
    assert not parts.folder.exists()
