import numpy as np
import pytest

from tests.dataset.source_fixtures.chestmnist import IMAGES, build
from trcgl.core.errors import DataError
from trcgl.dataset.sources import chestmnist
from trcgl.dataset.sources.chestmnist import Options


@pytest.fixture
def root(tmp_path):
    build(tmp_path)
    return tmp_path


def damaged(root, **arrays):
    with np.load(root / "chestmnist.npz") as whole:
        kept = {name: whole[name] for name in whole.files} | arrays
    np.savez(root / "chestmnist.npz", **{name: array for name, array in kept.items() if array is not None})


def test_every_row_fetches_its_own_picture(root):
    table = chestmnist.read(root)
    with np.load(root / "chestmnist.npz") as arrays:
        expected = np.concatenate([arrays[f"{split}_images"] for split in IMAGES])
    for row in range(table.rows.height):
        np.testing.assert_array_equal(table.load(row), expected[row])


def test_every_image_is_a_patient_and_the_report_says_so(root):
    table = chestmnist.read(root)
    assert table.rows["patient_id"].n_unique() == table.rows.height
    assert any("no patient identifiers" in note for note in table.notes)


def test_a_row_of_zeros_is_a_negative_and_takes_part(root):
    rows = chestmnist.read(root).rows
    assert rows["set_aside"].null_count() == rows.height


def test_the_largest_file_is_taken_unless_another_is_asked_for(root):
    larger = {f"{split}_images": np.zeros((number, 64, 64), np.uint8) for split, number in IMAGES.items()}
    with np.load(root / "chestmnist.npz") as small:
        labels = {name: small[name] for name in small.files if name.endswith("labels")}
    np.savez_compressed(root / "chestmnist_64.npz", **larger, **labels)
    assert chestmnist.read(root).load(0).shape == (64, 64)
    assert chestmnist.read(root, Options(size=28)).load(0).shape == (28, 28)


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"val_labels": None}, "'val_labels' is missing"),
        ({"val_images": None}, "'val_images' is missing"),
        ({"train_images": np.zeros((3, 28, 28), np.uint8)}, "do not match 20 labels"),
        ({"train_labels": np.full((20, 14), 2, np.uint8)}, "not 0 or 1"),
        ({"train_labels": np.zeros((20, 13), np.uint8)}, "14 findings"),
        ({"test_labels": np.array([{}] * 8, object)}, "cannot be read as an npz file"),
    ],
)
def test_a_file_of_another_layout_is_refused_with_the_reason(root, arrays, why):
    damaged(root, **arrays)
    with pytest.raises(DataError, match=rf"chestmnist\.npz.*{why}"):
        chestmnist.read(root)


def test_a_cut_off_file_is_refused(root):
    path = root / "chestmnist.npz"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="Download it again"):
        chestmnist.read(root)
