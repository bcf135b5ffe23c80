"""Random headers, read as the formulas of the standard say."""

import numpy as np
import pytest

from tests.imaging.standard_reference import dicom_of, picture, random_case
from trcgl.core.errors import REASONS, NotAccepted
from trcgl.imaging.radiograph import read_bytes

ACCEPTED = frozenset(REASONS) - {"blank"}


@pytest.mark.parametrize(
    ("seed", "count"), [(0, 300), pytest.param(1, 10_000, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_random_headers_give_the_gray_values_of_the_standard(seed, count):
    rng = np.random.default_rng(seed)
    for number in range(count):
        case = random_case(rng)
        content, expected = dicom_of(case), picture(case)
        if expected is None:
            with pytest.raises(NotAccepted, match="one gray"):
                read_bytes(content, "a.dcm", accept=ACCEPTED)
            continue
        found = read_bytes(content, "a.dcm", accept=ACCEPTED | {"blank"}).pixels
        apart = np.abs(found - expected).max()
        assert apart <= 0.501, (number, case)  # half a level of rounding, and single precision
