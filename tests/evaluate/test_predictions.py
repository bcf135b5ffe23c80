import numpy as np
import polars as pl
import pytest

from tests.evaluate.examples import SPACE, predictions
from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.evaluate.predictions import COLUMNS, Predictions, read_predictions, write_predictions


def changed(**fields):
    return Predictions(**{**vars(predictions(20)), **fields})


def test_what_is_written_is_read(tmp_path):
    before = predictions(20)
    write_predictions(tmp_path / "test.parquet", before)
    after = read_predictions(tmp_path / "test.parquet", SPACE)
    for name in ("score", "logit", "truth", "weight"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for name in COLUMNS:
        if name != "weight":
            assert getattr(after, name).equals(getattr(before, name), null_equal=True)


def test_unknown_labels_are_null_in_the_file_never_zero(tmp_path):
    example = predictions(20)
    write_predictions(tmp_path / "test.parquet", example)
    column = pl.read_parquet(tmp_path / "test.parquet")["truth/Effusion"]
    assert column.dtype == pl.Int8
    assert column.is_null().to_numpy().tolist() == np.isnan(example.truth[:, 1]).tolist()


def test_selecting_rows_keeps_them_together():
    example = predictions(20)
    rows = np.arange(len(example)) % 3 == 0
    some = example.select(rows)
    assert some.image_id.to_list() == [f"image-{row}" for row in range(0, len(example), 3)]
    np.testing.assert_array_equal(some.score, example.score[rows])


def test_a_score_that_is_no_probability_is_refused_and_the_image_named():
    score = predictions(20).score.copy()
    score[7, 2] = np.nan
    with pytest.raises(DataError, match=r"image-7.*nan for Nodule"):
        changed(score=score)


def test_an_image_twice_or_without_a_patient_is_refused():
    ids = predictions(20).image_id.to_list()
    with pytest.raises(DataError, match="'image-3' occurs more than once"):
        changed(image_id=pl.Series([*ids[:-1], "image-3"]))
    patients = predictions(20).patient_id.to_list()
    with pytest.raises(DataError, match="'image-0' has no patient_id"):
        changed(patient_id=pl.Series([None, *patients[1:]]))


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(DataError, match="1 values of view for 40 images"):
        changed(view=pl.Series(["frontal"]))


def test_a_file_that_is_missing_damaged_or_of_other_findings_is_refused(tmp_path):
    with pytest.raises(DataError, match="trcgl evaluate"):
        read_predictions(tmp_path / "none.parquet", SPACE)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"bad\.parquet"):
        read_predictions(tmp_path / "bad.parquet", SPACE)
    write_predictions(tmp_path / "test.parquet", predictions(20))
    with pytest.raises(DataError, match="score/Fracture"):
        read_predictions(tmp_path / "test.parquet", LabelSpace("other", ("Fracture",)))
