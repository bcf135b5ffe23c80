import numpy as np
import polars as pl
import pytest

from trcgl.core.errors import DataError
from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.sources.table import Options, read

COLUMNS = Options(finding_columns=("A", "B"))
LIST = Options(labels_column="labels")


def table(folder, text, name="labels.csv"):
    (folder / name).write_text(text)
    return folder


def labels(found):
    return {
        row["image_id"]: [row[finding] for finding in found.space.findings] for row in found.rows.iter_rows(named=True)
    }


def test_a_delimited_column_gives_the_findings_that_occur_most_frequent_first(tmp_path):
    found = read(table(tmp_path, "image,patient,labels\na,1,Mass\nb,2, Nodule | Mass\nc,3,Mass|Mass||\n"), LIST)
    assert found.space.findings == ("Mass", "Nodule")
    assert labels(found) == {"a": [1, 0], "b": [1, 1], "c": [1, 0]}


@pytest.mark.parametrize(("blank", "expected", "aside"), [("unknown", None, True), ("absent", 0, False)])
def test_an_empty_list_is_what_the_setting_says(tmp_path, blank, expected, aside):
    root = table(tmp_path, "image,patient,labels\na,1,Mass\nb,2,\n")
    found = read(root, Options(labels_column="labels", blank=blank))
    assert labels(found)["b"] == [expected]
    assert (found.rows["set_aside"][1] is not None) == aside


def test_a_row_with_only_other_findings_is_set_aside(tmp_path):
    root = table(tmp_path, "image,patient,labels\na,1,Mass\nb,2,Scoliosis\n")
    found = read(root, Options(labels_column="labels", finding_columns=("Mass",)))
    assert found.rows["set_aside"].to_list() == [None, "none of the label space's findings"]


@pytest.mark.parametrize(("uncertain", "expected"), [("unknown", None), ("absent", 0), ("present", 1)])
def test_minus_one_is_what_the_setting_says(tmp_path, uncertain, expected):
    root = table(tmp_path, "image,patient,A,B\na,1,-1,1\n")
    assert labels(read(root, Options(finding_columns=("A", "B"), uncertain=uncertain)))["a"] == [expected, 1]


def test_a_row_of_zeros_takes_part_as_a_known_negative(tmp_path):
    found = read(table(tmp_path, "image,patient,A,B\na,1,0,0\nb,2,,\n"), COLUMNS)
    assert found.rows["set_aside"].to_list() == [None, "every finding is unknown"]


def test_where_nothing_was_found_what_is_not_stated_is_absent(tmp_path):
    root = table(tmp_path, "image,patient,A,B,None\na,1,,-1,1\nb,2,1,,0\nc,3,,,\nd,4,,1,1\n")
    found = read(root, Options(finding_columns=("A", "B"), normal="None"))
    assert found.space.findings == ("A", "B", "None") and found.space.normal == "None"
    assert labels(found) == {"a": [0, None, 1], "b": [1, None, 0], "c": [None] * 3, "d": [0, 1, 1]}


def test_the_normal_label_of_a_list_stays_beside_the_findings_that_are_named(tmp_path):
    root = table(tmp_path, "image,patient,labels\na,1,Mass\nb,2,Healthy\nc,3,Scoliosis\n")
    found = read(root, Options(labels_column="labels", finding_columns=("Mass",), normal="Healthy"))
    assert labels(found) == {"a": [1, 0], "b": [0, 1], "c": [0, 0]}
    assert found.rows["set_aside"].to_list() == [None, None, "none of the label space's findings"]


def test_a_file_that_is_called_by_a_uid_is_found_in_any_folder(tmp_path):
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1.2.840.2").write_bytes(b"")
    found = read(table(tmp_path, "image,patient,A,B\n1.2.840.2,1,1,0\n1.2.840,2,1,0\n"), COLUMNS)
    assert dict(found.rows.select("image_id", "path").iter_rows()) == {
        "1.2.840.2": "series/1.2.840.2",
        "1.2.840": "1.2.840",
    }


def test_a_cell_that_is_no_label_is_named_with_its_image(tmp_path):
    with pytest.raises(DataError, match=r"labels\.csv: image 'a' has B = 'maybe'"):
        read(table(tmp_path, "image,patient,A,B\na,1,0,maybe\n"), COLUMNS)


def test_a_missing_patient_column_is_refused_with_both_ways_out(tmp_path):
    root = table(tmp_path, "image,mrn,A,B\na,1,0,1\n")
    with pytest.raises(DataError, match=r"'patient' is missing; the table has 'image', 'mrn'.*patient-column none"):
        read(root, COLUMNS)
    assert read(root, Options(finding_columns=("A", "B"), patient_column="none")).rows["patient_id"].to_list() == ["a"]


def test_without_finding_columns_the_table_is_asked_for_them(tmp_path):
    with pytest.raises(DataError, match=r"labels-column.*'image', 'patient', 'A'"):
        read(table(tmp_path, "image,patient,A\na,1,0\n"), Options())


@pytest.mark.parametrize("image", ["/etc/passwd", "../outside.png", "a/../../b.png", "C:/scan.png"])
def test_a_path_that_leaves_the_root_is_refused(tmp_path, image):
    with pytest.raises(DataError, match="outside the root"):
        read(table(tmp_path, f"image,patient,A,B\n{image},1,0,1\n"), COLUMNS)


def test_rows_of_one_image_that_contradict_each_other_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"image 'a' has rows that contradict"):
        read(table(tmp_path, "image,patient,A,B\na,1,0,1\na,1,1,1\n"), COLUMNS)


def test_a_split_that_is_none_of_three_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"image 'a' has set = 'holdout'"):
        read(
            table(tmp_path, "image,patient,A,B,set\na,1,0,1,holdout\n"),
            Options(finding_columns=("A", "B"), split_column="set"),
        )


def test_two_tables_need_a_name(tmp_path):
    table(tmp_path, "image,patient,A,B\na,1,0,1\n", "one.csv")
    table(tmp_path, "image,patient,A,B\nb,1,0,1\n", "two.csv")
    with pytest.raises(DataError, match=r"one\.csv, two\.csv.*--source\.table"):
        read(tmp_path, COLUMNS)
    named = read(tmp_path, Options(table="two.csv", finding_columns=("A", "B")))
    assert named.rows["image_id"].to_list() == ["b"]


def test_parquet_with_numbers_reads_like_csv(tmp_path):
    frame = pl.DataFrame({"image": ["a", "b"], "patient": [10, 11], "A": [1, 0], "B": [None, 1.0]})
    frame.write_parquet(tmp_path / "labels.parquet")
    found = read(tmp_path, COLUMNS)
    assert found.rows["patient_id"].to_list() == ["10", "11"]
    assert labels(found) == {"a": [1, None], "b": [0, 1]}


def test_a_table_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "labels.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"labels\.parquet: cannot be read"):
        read(tmp_path, COLUMNS)


def test_a_39_digit_patient_number_keeps_every_digit(tmp_path):
    number = "8398604886942923316379881856814609123"
    found = read(table(tmp_path, f"image,patient,A,B\na,{number},0,1\n"), COLUMNS)
    assert found.rows["patient_id"].to_list() == [number]


def test_a_name_that_fits_several_files_stays_as_written(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").touch()
    found = read(table(tmp_path, "image,patient,A,B\na,1,0,1\nx/a.png,2,0,1\n"), COLUMNS)
    assert found.rows["path"].to_list() == ["a", "x/a.png"]


def test_a_tree_of_dicom_files_is_prepared(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    lines = ["image,patient,A,B"]
    for number in range(9):
        image = pydicom.Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", f"1.2.3.{number}"
        image.Rows, image.Columns, image.SamplesPerPixel = 24, 24, 1
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
        image.PhotometricInterpretation = "MONOCHROME2"
        image.PixelData = (np.arange(576, dtype=np.uint16) * 7).tobytes()
        path = tmp_path / "archive" / f"p{number}" / "study" / f"1.2.3.{number}.dcm"
        path.parent.mkdir(parents=True)
        image.save_as(path, enforce_file_format=True)
        lines.append(f"1.2.3.{number},p{number},1,0")
    table(tmp_path / "archive", "\n".join(lines))
    report = prepare("table", tmp_path / "archive", tmp_path / "out", PrepareOptions(size=16, workers=1), COLUMNS)
    assert report["counts"]["images"] == 9 and not report["dropped"]
