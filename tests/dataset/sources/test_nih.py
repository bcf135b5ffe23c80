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
