import polars as pl
import pytest

from tests.dataset.small_dataset import write_dataset
from tests.dataset.small_synthetic import write_synthetic
from trcgl.core.errors import DataError
from trcgl.dataset.store import open_dataset
from trcgl.dataset.synthetic_rows import open_synthetic
from trcgl.study.training_variants import duplicate


@pytest.fixture
def folders(tmp_path):
    data = write_dataset(tmp_path / "data")
    return open_dataset(data), write_synthetic(tmp_path / "drawn", data, rejected=(2, 5))


def test_every_kept_image_becomes_its_source_with_the_labels_of_its_source(folders, tmp_path):
    real, drawn = folders
    duplicate(drawn, real, tmp_path / "copies")
    copies, originals = open_synthetic(tmp_path / "copies", real), open_synthetic(drawn, real)
    assert copies.rows["image_id"].to_list() == originals.rows["image_id"].to_list()
    assert copies.targets.to_list() == originals.targets.to_list() and len(copies.targets) == 14
    sources = pl.read_parquet(drawn / "provenance.parquet").select("image_id", "source_image_id")
    for copy in copies.rows.join(sources, on="image_id").iter_rows(named=True):
        source = real.manifest.row(by_predicate=pl.col("image_id") == copy["source_image_id"], named=True)
        assert source["split"] == "train" and copy["patient_id"] == source["patient_id"]
        assert [copy[one] for one in real.space.findings] == [source[one] for one in real.space.findings]
        assert (copies.dataset.images[copy["row"]] == real.images[source["row"]]).all()


def test_a_dose_takes_as_many_copies_as_drawn_images(folders, tmp_path):
    real, drawn = folders
    duplicate(drawn, real, tmp_path / "copies")
    for dose in (0.0, 0.3, None):
        both = [
            open_synthetic(folder, real, dose).rows["image_id"].to_list() for folder in (tmp_path / "copies", drawn)
        ]
        assert both[0] == both[1]


def test_images_that_were_drawn_for_another_dataset_are_refused(folders, tmp_path):
    other = open_dataset(write_dataset(tmp_path / "other", seed=1))
    with pytest.raises(DataError, match="generated for another dataset"):
        duplicate(folders[1], other, tmp_path / "copies")
    assert not (tmp_path / "copies").exists()
