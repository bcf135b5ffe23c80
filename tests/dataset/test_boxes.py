"""Boxes go where the picture goes: turned, resampled and letterboxed."""

import numpy as np
import polars as pl
import pytest
from pydicom import uid

from tests.imaging.dicom_files import dicom
from tests.model.small_run import SPACE
from trcgl.dataset.boxes import to_fractions
from trcgl.dataset.sources import SourceTable
from trcgl.imaging.decode import Decoder

DIRECTIONS = [("L", "F"), ("R", "F"), ("L", "H"), ("R", "H"), ("F", "L"), ("H", "L"), ("F", "R"), ("H", "R")]
PIXELS = (
    "kind",
    "height",
    "width",
    "scale_x",
    "scale_y",
    "offset_x",
    "offset_y",
    "low",
    "high",
    "side",
    "turn",
)


@pytest.mark.parametrize("orientation", DIRECTIONS, ids="".join)
@pytest.mark.parametrize("spacing", [[1, 1], [2, 1], [1, 2]], ids=str)
@pytest.mark.parametrize("fit", ["letterbox", "squash"])
def test_a_box_lies_around_its_mark_in_the_stored_image(orientation, spacing, fit, tmp_path):
    x, y, w, h = 10, 20, 30, 20
    stored = np.full((120, 80), 100, np.uint16)
    stored[0, 0] = 0
    stored[y : y + h, x : x + w] = 1000
    (tmp_path / "a.dcm").write_bytes(
        dicom(stored, syntax=uid.ExplicitVRLittleEndian, PatientOrientation=list(orientation), PixelSpacing=spacing)
    )
    decoder = Decoder(tmp_path / "parts", tmp_path, ("a.dcm",), None, 240, fit)
    decoder.folder.mkdir()
    decoder.make(0)
    [record], [picture] = decoder.records(0), decoder.pictures(0)
    row = ["dicom", *record["size"], *record["placement"], *record["range"], 240, record["turn"]]
    pixels = pl.DataFrame([["a", *row]], schema=["image_id", *PIXELS], orient="row")
    boxes = pl.DataFrame({"image_id": ["a"], "finding": ["Mass"], "x": [x], "y": [y], "w": [w], "h": [h]})
    names = pl.DataFrame({"image_id": ["a"]})
    found, lost = to_fractions(SourceTable(SPACE, names, names, boxes.cast({"x": pl.Float64})), names, pixels, fit)
    assert found is not None and not lost.height
    box = found.row(0, named=True)
    rows, columns = np.nonzero(picture > 200)
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    expected = [box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]]
    np.testing.assert_allclose(np.array(edges) / 240, expected, atol=1.5 / 240)
