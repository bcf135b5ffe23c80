import re

import numpy as np
import polars as pl
import pytest

from trcgl.core.errors import DataError
from trcgl.dataset.finding_counts import findings_text
from trcgl.dataset.manifest import SCHEMA
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


def prepared(root, tmp_path, options):
    return prepare("table", root, tmp_path / "out", PrepareOptions(size=16, workers=1, manifest_only=True), options)


@pytest.mark.parametrize("name", [*SCHEMA, "reason", "empty", "cell", "line", "findings", "files"])
def test_a_column_is_used_only_if_an_option_names_it(tmp_path, name):
    """A body weight must not become a weight in metrics, whatever the column is called."""
    plain, more = tmp_path / "plain", tmp_path / "more"
    for folder, header, cells in ((plain, "", ("", "")), (more, f",{name}", (",55 kg", ",0"))):
        folder.mkdir()
        table(folder, f"file,who,labels{header}\na,1,Mass{cells[0]}\nb,2,Nodule{cells[1]}\nc,3,{cells[0]}\n")
    options = Options(image_column="file", patient_column="who", labels_column="labels")
    assert read(more, options).rows.equals(read(plain, options).rows)
    assert read(more, options).rows["weight"].to_list() == [1.0] * 3


@pytest.mark.parametrize("name", ["reason", "set_aside", "line", "findings", "path"])
def test_a_column_of_any_name_can_hold_what_an_option_says(tmp_path, name):
    root = table(tmp_path, f"image_id,image,patient,{name}\nx,a,1,Mass\ny,b,1,Nodule\n")
    assert labels(read(root, Options(labels_column=name, patient_column="image_id"))) == {"a": [1, 0], "b": [0, 1]}
    assert read(root, Options(labels_column=name, patient_column="image_id")).rows["patient_id"].to_list() == ["x", "y"]


@pytest.mark.parametrize("label", ["empty", "cell", "line", "findings", "reason", "image", "patient", "", " "])
def test_a_finding_may_be_called_like_any_word(tmp_path, label):
    root = table(tmp_path, f"image,patient,labels\na,1,{label}|Mass\nb,2,Mass\n")
    expected = {"a": [1, 1], "b": [1, 0]} if label.strip() else {"a": [1], "b": [1]}
    assert labels(read(root, LIST)) == expected


def test_a_finding_called_like_a_column_of_the_manifest_is_refused(tmp_path):
    with pytest.raises(DataError, match="finding is called 'weight'.*another name"):
        read(table(tmp_path, "image,patient,weight\na,1,1\n"), Options(finding_columns=("weight",)))


@pytest.mark.parametrize("other", [";", ",", "\n"])
def test_another_delimiter_than_the_told_is_refused_with_the_option(tmp_path, other):
    root = table(tmp_path, f'image,patient,labels\na,1,Mass\nb,2,"Mass{other}Nodule"\n')
    with pytest.raises(DataError, match=r"'Mass' is a finding of its own\. Give --source\.delimiter"):
        read(root, LIST)
    found = read(root, Options(labels_column="labels", delimiter=other))
    assert labels(found) == {"a": [1, 0], "b": [1, 1]}


def test_another_delimiter_is_found_where_no_finding_stands_alone(tmp_path):
    root = table(tmp_path, "image,patient,labels\na,1,Mass;Edema\nb,2,Mass;Nodule\n")
    with pytest.raises(DataError, match=r"--source\.delimiter ';'"):
        read(root, LIST)


def test_findings_with_a_comma_in_their_names_can_be_named(tmp_path):
    root = table(tmp_path, 'image,patient,labels\na,1,Mass\nb,2,"Mass, old"\n')
    found = read(root, Options(labels_column="labels", finding_columns=("Mass", "Mass, old")))
    assert labels(found) == {"a": [1, 0], "b": [0, 1]}


@pytest.mark.parametrize(
    "both",
    [
        "['Mass', 'Nodule']",
        '["Mass", "Nodule"]',
        "['Mass' 'Nodule']",
        "['Mass'\n 'Nodule']",
        "('Mass', 'Nodule')",
        "{'Mass', 'Nodule'}",
    ],
)
def test_printed_lists_are_read_as_lists(tmp_path, both):
    cell = both.replace('"', '""')
    root = table(tmp_path, f'image,patient,labels\na,1,"{cell}"\nb,2,"[""Mass""]"\nc,3,[]\n')
    found = read(root, LIST)
    assert labels(found) == {"a": [1, 1], "b": [1, 0], "c": [None, None]}
    assert any("3 cells of 'labels' were read as printed lists" in notice for notice in found.notices)


@pytest.mark.parametrize("cell", ["[Mass, Nodule]", "['Mass', 5]"])
def test_a_printed_list_that_cannot_be_read_is_refused(tmp_path, cell):
    with pytest.raises(DataError, match="image 'a' has labels = .*looks like a list"):
        read(table(tmp_path, f'image,patient,labels\na,1,"{cell}"\n'), LIST)


@pytest.mark.parametrize("word", ["nan", "None", "NULL", "n/a"])
def test_words_for_no_value_are_blank_and_counted(tmp_path, word):
    root = table(tmp_path, f"image,patient,labels\na,1,Mass\nb,2,{word}\n")
    found = read(root, LIST)
    assert labels(found) == {"a": [1], "b": [None]}
    assert any("1 cells of 'labels' say nan" in notice for notice in found.notices)


def test_none_can_be_the_normal_finding(tmp_path):
    root = table(tmp_path, "image,patient,labels\na,1,Mass\nb,2,None\n")
    found = read(root, Options(labels_column="labels", finding_columns=("Mass",), normal="None"))
    assert labels(found) == {"a": [1, 0], "b": [0, 1]}


@pytest.mark.parametrize("patient", ["", "  ", "nan", "N/A", "NULL", "-", "unknown"])
def test_a_patient_who_is_not_known_is_no_patient(tmp_path, patient):
    found = read(table(tmp_path, f"image,patient,A,B\na,1,1,0\nb,{patient},1,0\n"), COLUMNS)
    assert found.dropped.rows() == [("b", "no patient named")]


def test_spellings_of_one_patient_are_never_divided(tmp_path):
    rows = "".join(
        f"i{row},{[str(row // 4), f'{row // 4}.0', f'{row // 4:04d}', f' {row // 4}'][row % 4]},1,0\n"
        for row in range(24)
    )
    report = prepared(table(tmp_path, f"image,patient,A,B\n{rows}"), tmp_path, COLUMNS)
    assert report["counts"]["patients"] == 6
    assert any("6 patients are spelled in several ways" in notice for notice in report["notices"])


def test_one_file_under_two_spellings_is_one_image(tmp_path):
    for name in ("i00.png", "i01.png"):
        (tmp_path / name).touch()
    root = table(tmp_path, "image,patient,A,B\ni00.png,1,1,0\n./i00.png,1,1,0\ni01.png,2,0,0\n")
    found = read(root, COLUMNS)
    assert found.rows["image_id"].to_list() == ["i00.png", "i01.png"]
    assert found.dropped.rows() == [("./i00.png", "the same file as an earlier row, under another name")]
    table(tmp_path, "image,patient,A,B\ni01.png,1,1,0\ni01,9,0,0\n")
    with pytest.raises(DataError, match="image 'i01' and 'i01.png' are one file, which has rows that contradict"):
        read(root, COLUMNS)


def test_a_row_per_finding_is_refused_with_the_option_that_reads_it(tmp_path):
    root = table(tmp_path, "image,patient,label\na,1,Mass\nb,2,Nodule\na,1,Nodule\na,1,Mass\nc,3,\n")
    with pytest.raises(DataError, match=r"image 'a' has rows that contradict.*--source\.long"):
        read(root, Options(labels_column="label"))
    found = read(root, Options(labels_column="label", long=True))
    assert found.space.findings == ("Nodule", "Mass")
    assert labels(found) == {"a": [1, 1], "b": [1, 0], "c": [None, None]}
    assert found.counts["rows in the table"] == 5 and not found.dropped.height


def test_the_rows_of_a_long_table_must_agree_on_the_patient(tmp_path):
    root = table(tmp_path, "image,patient,label\na,1,Mass\na,2,Nodule\n")
    with pytest.raises(DataError, match="rows of image 'a' differ in more than the finding"):
        read(root, Options(labels_column="label", long=True))


def test_findings_that_differ_only_in_spelling_are_mentioned(tmp_path):
    root = table(
        tmp_path, "image,patient,labels\na,1,Pleural Effusion\nb,2,pleural_effusion\nc,3,\u200bPleural Effusion\u00a0\n"
    )
    found = read(root, LIST)
    assert found.space.findings == ("Pleural Effusion", "pleural_effusion")
    assert any("differ only in spelling" in notice for notice in found.notices)


def test_a_name_that_fits_several_files_is_dropped_with_them(tmp_path):
    from PIL import Image

    for folder in ("x", "y"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        Image.fromarray(np.eye(20, dtype=np.uint8)).save(tmp_path / "in" / folder / "a.png")
    root = table(tmp_path / "in", "image,patient,A,B\na.png,1,0,1\nx/a.png,2,0,1\ny/a.png,3,1,0\n")
    report = prepare("table", root, tmp_path / "out", PrepareOptions(size=16, workers=1), COLUMNS)
    (dropped,) = report["dropped"]
    assert dropped["reason"] == "a.png: several files fit (such as x/a.png, y/a.png). Write the path below --root"
    assert report["reasons"] == {"several files fit. Write the path below --root": 1}


def test_hidden_and_upper_case_tables(tmp_path):
    (tmp_path / "._labels.csv").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert labels(read(table(tmp_path, "image,patient,A,B\na,1,0,1\n", "LABELS.CSV"), COLUMNS)) == {"a": [0, 1]}


def test_a_long_text_in_a_finding_column_is_not_quoted(tmp_path):
    report = "nodule of 5 mm in the upper lobe of the left lung, unchanged"
    with pytest.raises(DataError, match=r"image 'a' has B = a text of 60 characters"):
        read(table(tmp_path, f'image,patient,A,B\na,1,0,"{report}"\n'), COLUMNS)


@pytest.mark.parametrize(("cell", "value"), [("1.00", 1), ("-0.0", None), ("Y", 1), ("negative", 0), ("-1.00", None)])
def test_other_spellings_of_cells(tmp_path, cell, value):
    if cell == "-0.0":
        with pytest.raises(DataError):
            read(table(tmp_path, f"image,patient,A,B\na,1,{cell},1\n"), COLUMNS)
        return
    assert labels(read(table(tmp_path, f"image,patient,A,B\na,1,{cell},1\n"), COLUMNS))["a"] == [value, 1]


def test_ages_and_sexes_are_understood_or_counted(tmp_path):
    root = table(
        tmp_path,
        "image;patient;A;age;sex\na;1;1;58,5;männlich\nb;2;1;58 years;weiblich\n"
        "c;3;0;old;X\nd;4;0;;\ne;5;0;411;mujer\n",
    )
    found = read(root, Options(finding_columns=("A",), age_column="age", sex_column="sex"))
    assert found.rows["age"].to_list() == [58.5, 58, None, None, None]
    assert found.rows["sex"].to_list() == ["M", "F", None, None, "F"]
    assert (found.counts["age not understood"], found.counts["sex not understood"]) == (2, 1)


def test_a_finding_without_a_known_negative_is_mentioned(tmp_path):
    rows = "".join(f"i{row},p{row},{'1' if row % 2 else ''},{row % 2}\n" for row in range(30))
    report = prepared(table(tmp_path, f"image,patient,A,B\n{rows}"), tmp_path, COLUMNS)
    assert any("no row says that A is absent" in notice for notice in report["notices"])
    said = findings_text(report["findings"])
    for split in ("train", "val", "test"):
        assert re.search(rf"Without a known negative in {split}, [^:]*: A\.", said)


def test_a_split_of_few_patients_is_mentioned(tmp_path):
    rows = "".join(f"i{row},p{row},1,0\n" for row in range(60))
    report = prepared(table(tmp_path, f"image,patient,A,B\n{rows}"), tmp_path, COLUMNS)
    assert any("fewer than 20 patients: 6 in val, 12 in test" in notice for notice in report["notices"])
