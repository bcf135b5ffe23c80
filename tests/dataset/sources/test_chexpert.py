import pytest

from tests.dataset.source_fixtures.chexpert import build
from trcgl.core.errors import DataError
from trcgl.dataset.sources import chexpert

IMAGE = "train/patient00002/study2/view1_frontal.jpg"


@pytest.fixture
def root(tmp_path):
    build(tmp_path)
    return tmp_path


def label(root, finding, **options):
    rows = chexpert.read(root, chexpert.Options(**options)).rows
    return rows.filter(image_id=IMAGE)[finding].item()


@pytest.mark.parametrize(("meaning", "expected"), [("unknown", None), ("absent", 0), ("present", 1)])
def test_an_uncertain_label_means_what_the_option_says(root, meaning, expected):
    assert label(root, "Cardiomegaly", uncertain=meaning) == expected


@pytest.mark.parametrize(("meaning", "expected"), [("absent", 0), ("unknown", None)])
def test_a_blank_label_means_what_the_option_says(root, meaning, expected):
    assert label(root, "Edema", blank=meaning) == expected


def test_blanks_of_a_normal_row_are_negatives_whatever_blank_means(root):
    rows = chexpert.read(root, chexpert.Options(blank="unknown")).rows
    normal = rows.filter(rows["No Finding"] == 1).row(0, named=True)
    assert {name: normal[name] for name in chexpert.FINDINGS} == {
        name: int(name == "Support Devices") for name in chexpert.FINDINGS
    }


def test_only_a_row_without_any_mention_is_set_aside(root):
    rows = chexpert.read(root).rows
    aside = rows.filter(rows["set_aside"].is_not_null())
    assert aside["image_id"].to_list() == ["train/patient00005/study1/view1_frontal.jpg"]


def test_view_age_and_sex_are_read(root):
    rows = chexpert.read(root).rows
    assert dict(rows["view"].value_counts().iter_rows()) == {"frontal": 11, "lateral": 1}
    assert rows["sex"].null_count() == 1
    assert rows["age"].max() == 90


def test_paths_fit_a_root_that_is_the_archive_and_one_above_it(root):
    above, inside = chexpert.read(root), chexpert.read(root / "CheXpert-v1.0-small")
    assert above.root == inside.root == root / "CheXpert-v1.0-small"
    assert (above.root / above.rows["path"][0]).is_file()


def test_images_read_by_radiologists_become_the_test_split(root):
    header = ",".join(["Path", *chexpert.SPACE.findings])
    cells = ",".join("1.0" if name == "Fracture" else "0.0" for name in chexpert.SPACE.findings)
    path = "CheXpert-v1.0-small/valid/patient64541/study1/view1_lateral.jpg"
    (root / "CheXpert-v1.0-small" / "valid.csv").write_text(f"{header}\n{path},{cells}\n")
    rows = chexpert.read(root, chexpert.Options(test="expert")).rows
    test = rows.filter(split="test").row(0, named=True)
    assert (test["label_source"], test["view"], test["Fracture"], test["age"]) == ("physician", "lateral", 1, None)
    assert rows["split"].null_count() == 12


def test_expert_labels_that_are_not_there_are_asked_for(root):
    with pytest.raises(DataError, match=r"expert labels is missing.*valid\.csv"):
        chexpert.read(root, chexpert.Options(test="expert"))


def test_a_cell_that_is_no_label_is_named(root):
    path = root / "CheXpert-v1.0-small" / "train.csv"
    path.write_text(path.read_text().replace("Female,87,Frontal,AP,,,-1.0", "Female,87,Frontal,AP,,,maybe"))
    with pytest.raises(DataError, match=rf"{IMAGE}.*Cardiomegaly = 'maybe'"):
        chexpert.read(root)


@pytest.mark.parametrize("inside", ["", "train/"])
def test_the_batches_of_the_full_resolution_archive_are_found(root, inside):
    small = root / "CheXpert-v1.0-small"
    first = root / "CheXpert-v1.0 batch 1 (validate & csv)"
    first.mkdir()
    text = (small / "train.csv").read_text().replace("CheXpert-v1.0-small/", "CheXpert-v1.0/")
    (first / "train.csv").write_text(text)
    (small / "train.csv").unlink()
    for number, patient in enumerate(sorted((small / "train").iterdir())):
        batch = root / f"CheXpert-v1.0 batch {2 + number % 3} (train {1 + number % 3})" / inside
        batch.mkdir(parents=True, exist_ok=True)
        patient.rename(batch / patient.name)
    table = chexpert.read(root)
    paths = dict(table.rows.select("image_id", "path").iter_rows())
    assert paths[IMAGE] == f"CheXpert-v1.0 batch 3 (train 2)/{inside}patient00002/study2/view1_frontal.jpg"
    missing = "train/patient00009/study1/view1_frontal.jpg"
    assert [image for image, path in paths.items() if not (table.root / path).is_file()] == [missing]


def test_a_table_one_folder_deeper_is_named(root):
    (root / "a").mkdir()
    (root / "CheXpert-v1.0-small").rename(root / "a" / "CheXpert-v1.0-small")
    with pytest.raises(DataError, match=r"is missing\. There is a/CheXpert-v1\.0-small/train\.csv: give --root .*/a\."):
        chexpert.read(root)
