import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataset.source_fixtures.vindr import build, name
from trcgl.core.errors import DataError
from trcgl.dataset.sources import vindr
from trcgl.dataset.sources.vindr import Options, join_boxes


@pytest.fixture
def root(tmp_path):
    build(tmp_path)
    return tmp_path


def findings(table, image):
    row = table.rows.filter(image_id=name(image)).row(0, named=True)
    return {finding for finding in table.space.findings if row[finding] == 1}


def test_two_of_three_readers_make_a_finding_and_one_does_not(root):
    table = vindr.read(root)
    assert findings(table, 2) == {"Cardiomegaly"}
    assert findings(table, 3) == {"Nodule/Mass"}
    assert findings(table, 5) == {"No finding"}


def test_any_reader_is_enough_if_asked_for_and_overrules_no_finding(root):
    table = vindr.read(root, Options(agreement="any"))
    assert findings(table, 2) == {"Cardiomegaly", "ILD"}
    assert findings(table, 5) == {"Calcification"}


def test_an_image_on_which_no_two_readers_agree_is_set_aside(root):
    rows = vindr.read(root).rows
    assert rows.filter(rows["set_aside"].is_not_null())["image_id"].to_list() == [name(4)]


def test_overlapping_boxes_are_averaged_and_distant_ones_kept(root):
    boxes = vindr.read(root).boxes
    heart = boxes.filter(image_id=name(2)).rows()
    assert heart == [(name(2), "Cardiomegaly", 105.0, 200.0, 200.0, 200.0)]
    nodules = boxes.filter(image_id=name(3)).select("x", "y", "w", "h").rows()
    assert nodules == [(10.0, 10.0, 10.0, 10.0), (60.0, 60.0, 20.0, 21.0)]


def test_boxes_are_left_out_where_the_files_are_copies_of_another_size(root):
    for path in (root / "train").glob("*.dicom"):
        path.rename(path.with_suffix(".png"))
    table = vindr.read(root)
    assert table.boxes is None
    assert any("left out" in note for note in table.notes)


corner = st.integers(0, 50)
box = st.tuples(corner, corner, st.integers(1, 30), st.integers(1, 30)).map(
    lambda box: (float(box[0]), float(box[1]), float(box[0] + box[2]), float(box[1] + box[3]))
)


@given(st.lists(box, max_size=8))
def test_joined_boxes_lie_within_the_boxes_they_come_from(boxes):
    joined = join_boxes(boxes)
    assert len(joined) <= len(boxes)
    assert bool(joined) == bool(boxes)
    for side in range(4):
        values = [box[side] for box in boxes]
        assert all(min(values) <= box[side] <= max(values) for box in joined)


@given(box, st.integers(1, 5))
def test_equal_boxes_are_one_box(box, times):
    assert join_boxes([box] * times) == [box]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("ILD", "Interstitial", "unknown finding 'Interstitial'"),
        ("10,10,50,50", "10,10,50,", "missing corner"),
        ("10,10,50,50", "10,10,5,50", "no area"),
        ("10,10,50,50", "left,10,50,50", "missing corner"),
    ],
)
def test_a_broken_row_is_named(root, old, new, why):
    path = root / "train.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=rf"{name(2)}.*{why}"):
        vindr.read(root)


def physionet(root):
    """The tables as PhysioNet has them: wide labels, long boxes, another spelling in the test table."""
    folder = root / "annotations"
    folder.mkdir()
    (folder / "image_labels_train.csv").write_text(
        "image_id,rad_id,Cardiomegaly,Nodule/Mass,Other diseases,No finding\n"
        "a,R1,1,0,0,0\na,R2,1,0,1,0\na,R3,0,0,0,0\n"
        "b,R1,0,0,0,1\nb,R2,0,0,0,1\nb,R3,0,0,0,1\n"
        "c,R1,0,0,0,0\nc,R2,0,0,0,0\nc,R3,0,1,0,0\n"
    )
    (folder / "annotations_train.csv").write_text(
        "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n"
        "a,R1,Cardiomegaly,10.5,10,20,20\na,R2,Cardiomegaly,10.5,10,20,20\nb,R1,No finding,,,,\n"
    )
    (folder / "image_labels_test.csv").write_text(
        "image_id,Cardiomegaly,Nodule/Mass,Other disease,No finding\nt,0,1,1,0\nu,0,0,0,1\n"
    )
    (folder / "annotations_test.csv").write_text(
        "image_id,class_name,x_min,y_min,x_max,y_max\nt,Nodule/Mass,1,1,5,5\nt,Other disease,,,,\n"
    )


def test_physionets_tables_bring_a_consensus_test_split(tmp_path):
    physionet(tmp_path)
    table = vindr.read(tmp_path)
    assert table.space.findings == ("Cardiomegaly", "Nodule/Mass", "Other diseases", "No finding")
    labels = {row[0]: row[1:] for row in table.rows.select("image_id", *table.space.findings).iter_rows()}
    assert labels == {"a": (1, 0, 0, 0), "b": (0, 0, 0, 1), "c": (0, 0, 0, 0), "t": (0, 1, 1, 0), "u": (0, 0, 0, 1)}
    assert dict(table.rows.select("image_id", "split").iter_rows()) == {
        "a": None, "b": None, "c": None, "t": "test", "u": "test",
    }  # fmt: skip
    assert table.rows.filter(split="test")["label_source"].unique().to_list() == ["consensus"]
    assert table.boxes["image_id"].to_list() == ["a", "t"]


@pytest.mark.parametrize(("folder", "ending"), [("train/train", "png"), ("train", "PNG"), ("copies/512", "jpg")])
def test_copies_in_other_folders_and_formats_are_found(root, folder, ending):
    (root / folder).mkdir(parents=True, exist_ok=True)
    for path in sorted((root / "train").glob("*.dicom")):
        path.rename(root / folder / f"{path.stem}.{ending}")
    table = vindr.read(root)
    assert table.rows["path"][0] == f"{folder}/{name(1)}.{ending}"
    assert table.boxes is None
