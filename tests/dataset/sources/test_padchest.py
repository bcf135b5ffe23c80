import csv

import pytest

from tests.dataset import source_fixtures
from trcgl.dataset.sources.padchest import read
from trcgl.dataset.sources.padchest_findings import SPACE


@pytest.fixture
def rows(tmp_path):
    found = read(source_fixtures.build("padchest", tmp_path).root).rows
    return {row["image_id"]: row for row in found.iter_rows(named=True)}


def test_patients_keep_every_digit(rows):
    assert rows["a0.png"]["patient_id"] == "839860488694292331637988185681460900001"


def test_views_are_frontal_lateral_other_or_not_stated(rows):
    views = {image: row["view"] for image, row in rows.items()}
    assert (views["a0.png"], views["a1.png"], views["c0.png"]) == ("frontal", "lateral", "frontal")
    assert (views["f0.png"], views["g0.png"], views["h0.png"]) == ("other", None, "other")


def test_it_says_who_labeled_a_row(rows):
    assert {row["label_source"] for row in rows.values()} == {"physician", "network"}


def test_a_row_with_only_other_findings_is_set_aside(rows):
    aside = {image for image, row in rows.items() if row["set_aside"]}
    assert aside == {"c0.png", "g0.png"}


def test_age_is_that_at_the_study_and_unknown_without_a_birth_year(rows):
    assert rows["a0.png"]["age"] == 84
    assert rows["d0.png"]["age"] is None


def test_the_groups_hold_three_twenty_and_seven_findings():
    assert [len(SPACE.in_group(group)) for group in ("head", "medium", "tail")] == [3, 20, 7]


@pytest.mark.parametrize("change", ["one folder", "no folder", "0.0", "00"])
def test_images_are_found_in_other_folders_than_the_table_says(tmp_path, change):
    root = source_fixtures.build("padchest", tmp_path).root
    expected = read(root).rows
    images = sorted(path for path in root.rglob("*.png"))
    path = next(root.glob("PADCHEST*"))
    if change == "0.0":
        lines = list(csv.reader(path.open(newline="")))
        place = lines[0].index("ImageDir")
        for line in lines[1:]:
            line[place] += ".0"
        with path.open("w", newline="") as handle:
            csv.writer(handle).writerows(lines)
    else:
        for image in images:
            folder = {"one folder": root / "images", "no folder": root, "00": root / f"0{image.parent.name}"}[change]
            folder.mkdir(exist_ok=True)
            image.rename(folder / image.name)
    rows = read(root).rows
    assert rows.drop("path").equals(expected.drop("path"))
    there = [(root / name).is_file() for name in rows["path"]]
    assert there == [(name in {image.name for image in images}) for name in rows["image_id"]]
