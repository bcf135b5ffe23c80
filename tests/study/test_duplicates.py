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
    return open_dataset(data), write_synthetic(tmp_path / "synthetic", data, rejected=(2, 5))


def test_every_kept_image_becomes_its_source_with_the_labels_of_its_source(folders, tmp_path):
    real, synthetic = folders
    duplicate(synthetic, real, tmp_path / "duplicates")
    duplicates, originals = open_synthetic(tmp_path / "duplicates", real), open_synthetic(synthetic, real)
    assert duplicates.rows["image_id"].to_list() == originals.rows["image_id"].to_list()
    assert duplicates.targets.to_list() == originals.targets.to_list() and len(duplicates.targets) == 14
    sources = pl.read_parquet(synthetic / "provenance.parquet").select("image_id", "source_image_id")
    for duplicate_row in duplicates.rows.join(sources, on="image_id").iter_rows(named=True):
        source = real.manifest.row(by_predicate=pl.col("image_id") == duplicate_row["source_image_id"], named=True)
        assert source["split"] == "train" and duplicate_row["patient_id"] == source["patient_id"]
        assert [duplicate_row[finding] for finding in real.space.findings] == [
            source[finding] for finding in real.space.findings
        ]
        assert (duplicates.dataset.images[duplicate_row["row"]] == real.images[source["row"]]).all()


def test_a_dose_takes_as_many_duplicates_as_synthetic_images(folders, tmp_path):
    real, synthetic = folders
    duplicate(synthetic, real, tmp_path / "duplicates")
    for dose in (0.0, 0.3, None):
        both = [
            open_synthetic(folder, real, dose).rows["image_id"].to_list()
            for folder in (tmp_path / "duplicates", synthetic)
        ]
        assert both[0] == both[1]


def test_synthetic_images_of_another_dataset_are_refused(folders, tmp_path):
    other = open_dataset(write_dataset(tmp_path / "other", seed=1))
    with pytest.raises(DataError, match="generated for another dataset"):
        duplicate(folders[1], other, tmp_path / "duplicates")
    assert not (tmp_path / "duplicates").exists()
