"""Reading real radiographs as NIH distributes them: 1024 px, four of the 44 with color and alpha."""

import numpy as np
import pytest
from PIL import Image

from trcgl.imaging.radiograph import read_radiograph


@pytest.fixture(scope="module")
def paths(real_data):
    found = sorted((real_data / "nih-fullres").glob("*.png"))
    if not found:
        pytest.skip(f"no radiographs in {real_data / 'nih-fullres'}")
    return found


def test_every_file_is_read_with_the_values_of_its_first_channel(paths):
    modes = []
    for path in paths:
        with Image.open(path) as picture:
            modes.append(picture.mode)
            first = np.asarray(picture.getchannel(0))
        read = read_radiograph(path)
        np.testing.assert_array_equal(read.pixels, first)
        assert read.original_size == (1024, 1024)
    assert modes.count("RGBA") == 4


def test_shrinking_keeps_to_the_average_over_areas(paths):
    for path in paths[:8]:
        whole = read_radiograph(path).pixels.astype(float)
        areas = whole.reshape(256, 4, 256, 4).mean((1, 3))
        assert np.abs(read_radiograph(path, size=256).pixels - areas).max() <= 1
