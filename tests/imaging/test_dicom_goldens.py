"""Gray values of DICOM files against values computed by hand, for every encoding and every pixel rule.

A picture has five bands of 0, 1/4, 2/5, 3/4 and 1 of its largest value, each a fifth of the pixels, so that the
percentiles of the pixel rule are the smallest and the largest value: gray = floor(255 * fraction + 1/2).
"""

import io

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom import uid

from tests.imaging.dicom_files import dicom, jpeg, lut, packed, with_frame
from trcgl.imaging.radiograph import read_bytes

GRAY = {"MONOCHROME2": [0, 64, 102, 191, 255], "MONOCHROME1": [255, 191, 153, 64, 0]}
STORED = {
    8: [0, 64, 102, 191, 255],  # 8-bit files keep their values
    10: [0, 250, 400, 750, 1000],
    12: [0, 1000, 1600, 3000, 4000],
    16: [0, 15_000, 24_000, 45_000, 60_000],
}
BY_GDCM = {
    uid.JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
    uid.JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    uid.JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
}
LOSSLESS = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.RLELossless, uid.JPEG2000Lossless, *BY_GDCM]


def bands(values, kind=np.uint16) -> np.ndarray:
    """(40, 40), each value in eight rows: JPEG's blocks are flat."""
    return np.repeat(np.array(values, kind), 8)[:, None].repeat(40, axis=1)


def grays(content: bytes) -> list[int]:
    """The five gray values, each the same all over its band."""
    pixels = read_bytes(content, "golden.dcm").pixels
    values = pixels[::8, 0]
    np.testing.assert_array_equal(pixels, bands(values, np.uint8))
    return values.tolist()


@pytest.mark.parametrize("photometric", GRAY)
@pytest.mark.parametrize("bits", STORED)
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
def test_every_lossless_encoding_of_every_depth(syntax, bits, photometric, tmp_path):
    pixels = bands(STORED[bits], np.uint8 if bits == 8 else np.uint16)
    plain = uid.ExplicitVRLittleEndian if syntax in BY_GDCM else syntax
    content = dicom(pixels, bits, plain, PhotometricInterpretation=photometric)
    if syntax in BY_GDCM:
        content = packed(content, BY_GDCM[syntax], tmp_path)
    assert pydicom.dcmread(io.BytesIO(content)).file_meta.TransferSyntaxUID == syntax
    assert grays(content) == GRAY[photometric]


@pytest.mark.parametrize("photometric", GRAY)
def test_jpeg_baseline(photometric):
    plain = dicom(bands(STORED[8], np.uint8), 8, PhotometricInterpretation=photometric)
    content = with_frame(plain, jpeg(bands(STORED[8], np.uint8)), uid.JPEGBaseline8Bit)
    # Blocks are flat, so that only the rounding of one coefficient is lost.
    np.testing.assert_allclose(grays(content), GRAY[photometric], atol=2)


def squares(x: np.ndarray) -> np.ndarray:
    return x * x // 400


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        # PS3.3 C.11.2.1.2.1: ((x - (c - 1/2)) / (w - 1) + 1/2), here from 500 to 2500
        ({"WindowCenter": 1500.5, "WindowWidth": 2001}, [0, 64, 140, 255, 255]),
        (
            {"WindowCenter": 1500.5, "WindowWidth": 2001, "PhotometricInterpretation": "MONOCHROME1"},
            [255, 191, 115, 0, 0],
        ),
        # C.11.2.1.3.2: (x - c) / w + 1/2
        ({"WindowCenter": 1500, "WindowWidth": 2000, "VOILUTFunction": "LINEAR_EXACT"}, [0, 64, 140, 255, 255]),
        # C.11.2.1.3.1: 1 / (1 + exp(-4 (x - c) / w)) is .0180, .1192, .3100, .8808, .9820, then stretched
        ({"WindowCenter": 2000, "WindowWidth": 2000, "VOILUTFunction": "SIGMOID"}, [0, 27, 77, 228, 255]),
        # modality rescale: 4000, 3000, 2400, 1000, 0
        ({"RescaleSlope": -1, "RescaleIntercept": 4000}, [255, 191, 153, 64, 0]),
        # rescaled to -1000 ... 3000, of which the window takes -500 to 1500
        (
            {"RescaleSlope": 1, "RescaleIntercept": -1000, "WindowCenter": 500.5, "WindowWidth": 2001},
            [0, 64, 140, 255, 255],
        ),
        # 0, 2500, 6400, 22500 and 40000 of 40000
        ({"ModalityLUTSequence": [lut(squares(np.arange(4096)))], "ModalityLUTType": "US"}, [0, 16, 41, 143, 255]),
        ({"VOILUTSequence": [lut(squares(np.arange(4096)))]}, [0, 16, 41, 143, 255]),
        # three entries from 1000 on: what is below takes the first, what is above the last
        ({"VOILUTSequence": [lut(np.array([100, 200, 300]), first=1000)]}, [0, 0, 255, 255, 255]),
    ],
    ids=["linear", "linear, MONOCHROME1", "exact", "sigmoid", "rescale", "rescale, linear", "modality", "VOI", "short"],
)
def test_windows_and_lookup_tables(elements, expected):
    assert grays(dicom(bands(STORED[12]), 12, **elements)) == expected


def test_signed_values():
    assert grays(dicom(bands([-2000, -1000, -400, 1000, 2000], np.int16), 16)) == GRAY["MONOCHROME2"]
