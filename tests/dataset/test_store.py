import sys

import numpy as np
import pytest

from tests.dataset.small_dataset import write_dataset
from trcgl.core.errors import DataError
from trcgl.dataset.store import open_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(write_dataset(tmp_path_factory.mktemp("data") / "small"))


def test_a_dataset_is_a_table_with_a_row_per_image_and_a_column_per_finding(dataset):
    table = dataset.table()
    assert table.height == len(dataset.images) and set(dataset.space.findings) <= set(table.columns)
    train = dataset.table("train")
    assert train["split"].unique().to_list() == ["train"]
    np.testing.assert_array_equal(dataset.images[train["row"]][0], dataset.images[train["row"][0]])
    with pytest.raises(DataError, match="splits are train, val, test"):
        dataset.table("valid")


def test_a_dataset_is_a_pandas_table_in_which_unknown_is_not_absent(dataset):
    pytest.importorskip("pandas")
    frame, table = dataset.to_pandas("test"), dataset.table("test")
    assert list(frame.columns) == table.columns and len(frame) == table.height
    for finding in dataset.space.findings:
        assert frame[finding].isna().tolist() == table[finding].is_null().to_list()
        assert frame[finding].sum() == table[finding].sum()


def test_without_pandas_the_message_says_what_to_install(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(DataError, match="pip install pandas"):
        dataset.to_pandas()
