import polars as pl
import pytest

from tests.dataset.source_fixtures.cxr_lt_2026 import FINDINGS, OTHER_ARCHIVE, TESTED, build, write_csv
from trcgl.core.errors import DataError
from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.sources.cxr_lt_2026 import CLASSES, REMOVAL, TEST_LISTS, TRAINING, Options, listed_images, read
from trcgl.dataset.store import open_dataset


@pytest.fixture
def root(tmp_path):
    build(tmp_path)
    return tmp_path


def test_patients_come_from_padchests_table_with_every_digit(root):
    rows = read(root).rows
    assert rows.filter(image_id="a0.png")["patient_id"][0] == "839860488694292331637988185681460900001"
    assert rows["patient_id"].n_unique() == 11


def test_views_and_studies_come_from_padchests_table(root):
    rows = {row["image_id"]: row for row in read(root).rows.iter_rows(named=True)}
    assert [rows[f"{image}.png"]["view"] for image in ("a0", "a1", "g0")] == ["frontal", "lateral", None]
    assert rows["a1.png"]["study_id"] == rows["a0.png"]["study_id"] == "study1"


def test_without_padchests_table_the_reason_is_named(root):
    next(root.glob("PADCHEST*")).unlink()
    with pytest.raises(DataError, match=r"PADCHEST_chest_x_ray_images_labels_160K.*rounds patient identifiers"):
        read(root)


def test_a_row_of_zeros_takes_part_as_a_negative_of_every_finding(root):
    row = read(root).rows.filter(image_id="c0.png")
    assert row["set_aside"][0] is None
    assert [row[finding][0] for finding in FINDINGS] == [0] * 30


def test_removed_images_and_images_of_test_lists_are_counted(root):
    table = read(root)
    assert table.counts[f"images in {REMOVAL}"] == 1
    assert table.counts["images on the test list of task 1"] == 4
    assert table.counts["rows without any finding, which are negatives"] == 1
    assert table.rows.filter(pl.col("image_id").is_in(["r0.png", "t0.png"])).height == 0


def test_a_notice_counts_views_other_archives_and_known_patients_of_the_test_list(root):
    (notice,) = [text for text in read(root).notices if "task 1" in text]
    assert "2 frontal, 1 lateral images of PadChest, 1 of other archives; 1 are of patients who have images" in notice


def test_without_the_removal_list_a_notice_says_so(root):
    (root / REMOVAL).unlink()
    table = read(root)
    assert any(REMOVAL in notice for notice in table.notices)
    assert "r0.png" in table.rows["image_id"].to_list()


def test_findings_have_the_order_of_the_class_list_and_groups_by_name(root):
    space = read(root).space
    assert space.findings == FINDINGS
    assert [len(space.in_group(group)) for group in ("head", "medium", "tail")] == [3, 20, 7]


def test_a_class_without_a_column_is_named(root):
    with (root / CLASSES).open("a") as handle:
        handle.write("Goiter\n")
    with pytest.raises(DataError, match=r"class 'Goiter' of .*Train_CLASS\.txt has no column"):
        read(root)


def test_tables_may_lie_elsewhere(root, tmp_path_factory):
    tables = tmp_path_factory.mktemp("tables")
    expected = read(root).rows
    for name in (TRAINING, REMOVAL, CLASSES, *TEST_LISTS.values()):
        (root / name).rename(tables / name)
    assert read(root, Options(tables=str(tables))).rows.equals(expected)


def test_a_list_of_the_challenge_keeps_its_order_and_the_name_of_its_column(root):
    column, images = listed_images(root / TEST_LISTS["task 1"])
    assert column == "ImageID"
    assert images == [*(f"{image}.png" for image, *_ in TESTED), f"{OTHER_ARCHIVE}.png"]


def test_a_list_that_names_an_image_twice_is_refused(tmp_path):
    write_csv(tmp_path / "list.csv", [["dicom_id"], ["a"], ["a"]])
    with pytest.raises(DataError, match="'a' is named twice"):
        listed_images(tmp_path / "list.csv")


def test_the_dataset_says_that_methods_are_ranked_by_average_precision(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "dataset"
    prepare("cxr-lt-2026", root, out, PrepareOptions(manifest_only=True))
    assert open_dataset(out).info["headline"] == "AP"
