import pytest

from tests.dataset.source_fixtures.mimic_cxr_lt import DICOM, build
from trcgl.core.errors import DataError
from trcgl.dataset.sources import mimic_cxr_lt
from trcgl.dataset.sources.mimic_cxr_lt import FINDINGS_2023, Options


@pytest.fixture
def root(tmp_path):
    build(tmp_path)
    return tmp_path


def tables_of_2024(folder, task):
    folder.mkdir(parents=True)
    columns = [*mimic_cxr_lt.COLUMNS, "ViewCodeSequence_CodeMeaning", "fpath"]
    findings = {
        1: sorted([*(set(FINDINGS_2023) - {"No Finding"}), "Normal", *mimic_cxr_lt.ADDED_2024]),
        2: sorted([*(set(FINDINGS_2023) - {"No Finding"}), "Normal"]),
    }
    names = {"train_labeled.csv": 1, f"development_labeled_task{task}.csv": task, f"test_labeled_task{task}.csv": task}
    for number, (name, of) in enumerate(names.items()):
        lines = [",".join([*columns, *findings[of]])]
        for row in range(3):
            cells = ["1.0" if finding in ("Hernia", "Azygos Lobe") else "0.0" for finding in findings[of]]
            about = [f"d{number}{row}", f"1{number}00000{row}", f"5{number}00000{row}", "PA", "", "unused"]
            lines.append(",".join([*about, *cells]))
        (folder / name).write_text("\n".join(lines))


def test_views_are_frontal_lateral_or_other_and_null_stays_null(root):
    rows = mimic_cxr_lt.read(root).rows
    views = {image: view for image, view in rows.select("image_id", "view").iter_rows()}
    assert [views[DICOM.format(number)] for number in range(1, 7)] == [
        "frontal", "lateral", "frontal", "lateral", None, "other",
    ]  # fmt: skip


def test_paths_are_those_of_the_jpg_or_the_dicom_archive(root):
    path = f"files/p10/p10000032/s50414267/{DICOM.format(1)}"
    assert mimic_cxr_lt.read(root).rows["path"][0] == f"{path}.jpg"
    assert mimic_cxr_lt.read(root, Options(dicom=True)).rows["path"][0] == f"{path}.dcm"


def test_a_row_without_findings_takes_part_as_in_the_challenge(root):
    rows = mimic_cxr_lt.read(root).rows
    assert rows["set_aside"].null_count() == rows.height


def test_without_all_three_tables_the_patients_are_divided_into_new_splits(root):
    (root / "cxr-lt" / "cxr-lt-2023" / "test.csv").unlink()
    table = mimic_cxr_lt.read(root)
    assert table.rows["split"].null_count() == table.rows.height == 9
    assert any("divided into new splits" in note for note in table.notes)


@pytest.mark.parametrize(("task", "number", "positives"), [(1, 40, 18), (2, 26, 9)])
def test_the_release_of_2024_has_forty_findings_or_the_twenty_six_of_task_2(tmp_path, task, number, positives):
    tables_of_2024(tmp_path / "cxr-lt-2024", task)
    table = mimic_cxr_lt.read(tmp_path, Options(task=task))
    assert len(table.space.findings) == number
    assert table.space.normal == "Normal"
    assert sum(table.rows[finding].sum() for finding in table.space.findings) == positives
    assert table.rows["split"].to_list() == ["train"] * 3 + ["val"] * 3 + ["test"] * 3
    by_hand = table.rows.filter(label_source="physician")["split"].unique().sort().to_list()
    assert by_hand == (["test", "val"] if task == 2 else [])


def test_the_newer_release_is_taken_unless_the_other_is_asked_for(root):
    tables_of_2024(root / "cxr-lt-2024", 1)
    assert mimic_cxr_lt.read(root).space.name == "cxr-lt-2024-task1"
    assert mimic_cxr_lt.read(root, Options(release="2023")).space.name == "cxr-lt-2023"


def test_tables_may_lie_elsewhere(root, tmp_path_factory):
    images = tmp_path_factory.mktemp("images")
    table = mimic_cxr_lt.read(images, Options(labels=str(root / "cxr-lt" / "cxr-lt-2023")))
    assert table.root == images


def test_without_any_table_both_releases_are_named(tmp_path):
    with pytest.raises(DataError, match=r"train_labeled\.csv.*cxr-lt-2023/train\.csv"):
        mimic_cxr_lt.read(tmp_path)


def test_numbers_that_pandas_wrote_with_a_point_are_read(root):
    expected = mimic_cxr_lt.read(root).rows
    for path in (root / "cxr-lt" / "cxr-lt-2023").glob("*.csv"):
        lines = [line.split(",") for line in path.read_text().splitlines()]
        places = [lines[0].index(name) for name in ("subject_id", "study_id")]
        for line in lines[1:]:
            for place in places:
                line[place] += ".0" if line[place] else ""
        path.write_text("\n".join(",".join(line) for line in lines))
    assert mimic_cxr_lt.read(root).rows.equals(expected)


def test_resized_copies_in_one_folder_are_found(root):
    (root / "images_512").mkdir()
    for path in sorted((root / "files").rglob("*.jpg")):
        path.rename(root / "images_512" / f"{path.stem}.png")
    rows = mimic_cxr_lt.read(root).rows
    assert rows["path"][0] == f"images_512/{DICOM.format(1)}.png"


def test_downloads_of_physionet_are_found_in_their_own_folders(root):
    expected = mimic_cxr_lt.read(root).rows
    tables = root / "physionet.org" / "files" / "cxr-lt-iccv-workshop-cvamd" / "2.0.0" / "cxr-lt-2023"
    tables.parent.mkdir(parents=True)
    (root / "cxr-lt" / "cxr-lt-2023").rename(tables)
    images = root / "physionet.org" / "files" / "mimic-cxr-jpg" / "2.0.0" / "files"
    images.parent.mkdir(parents=True)
    (root / "files").rename(images)
    table = mimic_cxr_lt.read(root / "physionet.org" / "files")
    assert table.rows.equals(expected) and table.root == images.parent
    assert mimic_cxr_lt.read(root).root == images.parent
