import pytest

from tests.dataset import source_fixtures
from trcgl.core.errors import DataError
from trcgl.dataset.sources.nih import Options, read


@pytest.fixture
def root(tmp_path):
    return source_fixtures.build("nih", tmp_path).root


def test_no_finding_is_reported_but_left_out_of_the_means(root):
    space = read(root).space
    assert space.normal == "No Finding" and space.normal in space.findings
    assert len(space.scored) == 14 and space.normal not in space.scored


def test_a_part_of_the_archive_is_grouped_by_name(root):
    assert read(root).space.in_group("tail") == ("Fibrosis", "Hernia")
    assert read(root, Options(groups="prevalence")).space.groups == {}


def test_an_age_of_411_years_is_unknown(root):
    ages = dict(read(root).rows.select("image_id", "age").iter_rows())
    assert ages["00000002_000.png"] is None
    assert ages["00000001_001.png"] == 58


def test_an_unknown_label_is_named_with_its_image(root):
    path = root / "Data_Entry_2017_v2020.csv"
    path.write_text(path.read_text().replace("Mass|Nodule", "Mass|Nodul"))
    with pytest.raises(DataError, match=r"00000004_000\.png.*unknown label 'Nodul'"):
        read(root)


def test_a_box_that_is_no_box_is_named_with_its_image(root):
    path = root / "BBox_List_2017.csv"
    path.write_text(path.read_text().replace("512,256,256,128", "512,256,wide,128"))
    with pytest.raises(DataError, match=r"box of '00000003_001\.png' is not four numbers"):
        read(root)


def only_list(root, name, lines):
    (root / "test_list.txt").unlink()
    (root / name).write_text("\n".join(lines), encoding="utf-8-sig")
    return read(root)


@pytest.mark.parametrize("name", ["test_list.txt", "test_list_NIH.txt", "Test_List.TXT"])
@pytest.mark.parametrize("spelled", ["{}.png", "images/{}.png", "{}", "images\\{}.jpg", "{}.png,"])
def test_the_official_list_is_recognized_under_its_names_and_spellings(root, name, spelled):
    table = only_list(root, name, [spelled.format("00000003_000"), spelled.format("00000002_000")])
    test = table.rows.filter(table.rows["split"] == "test")["image_id"].to_list()
    assert test == ["00000002_000.png", "00000003_000.png"]
    assert not any("official list" in notice for notice in table.notices)


@pytest.mark.parametrize("lines", [[], ["00000099_000.png"], ["<html>"]])
def test_a_list_of_which_nothing_matches_is_refused(root, lines):
    with pytest.raises(DataError, match=r"test_list\.txt: none of its \d names is an image"):
        only_list(root, "test_list.txt", lines)


def test_a_missing_list_is_mentioned(root):
    (root / "test_list.txt").unlink()
    table = read(root)
    assert table.rows["split"].null_count() == table.rows.height
    assert any("no official list" in notice for notice in table.notices)


def test_boxes_are_found_under_the_name_of_another_copy(root):
    (root / "BBox_List_2017.csv").rename(root / "BBox_List_2017_Official_NIH.csv")
    assert read(root).boxes.height == 3


@pytest.mark.parametrize("folder", ["sample/images", "images-224/images-224"])
@pytest.mark.parametrize("ending", ["png", "PNG", "jpg"])
def test_images_are_found_in_other_folders_and_formats(root, folder, ending):
    (root / folder).mkdir(parents=True)
    for path in sorted(root.glob("images_*/images/*.png")):
        path.rename(root / folder / f"{path.stem}.{ending}")
    paths = dict(read(root).rows.select("image_id", "path").iter_rows())
    assert paths["00000001_000.png"] == f"{folder}/00000001_000.{ending}"
    assert paths["00000010_000.png"] == "images/00000010_000.png"  # which is missing


def test_a_blank_in_a_label_is_an_underscore(root):
    expected = read(root).rows
    path = root / "Data_Entry_2017_v2020.csv"
    path.write_text(path.read_text().replace("Pleural_Thickening", "Pleural Thickening"))
    assert read(root).rows.equals(expected)


def test_no_finding_beside_a_finding_is_mentioned(root):
    path = root / "Data_Entry_2017_v2020.csv"
    path.write_text(path.read_text().replace("Mass|Nodule", "Mass|No Finding"))
    assert "1 images have No Finding beside a finding; both count as present." in read(root).notices
