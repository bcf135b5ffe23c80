"""DICOM files that the tests write themselves, in the encodings that detectors and archives use."""

import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from trcgl.core.errors import UnreadableImage
from trcgl.data.radiograph import read_bytes


def dicom(pixels: np.ndarray, bits: int = 12, syntax=ExplicitVRLittleEndian, **elements) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax.is_compressed else syntax
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.3"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 if bits <= 8 else 16, bits, bits - 1
    dataset.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset["PixelData"].VR = "OB" if bits <= 8 else "OW"
    for name, value in elements.items():
        setattr(dataset, name, value)
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        dataset.compress(syntax, generate_instance_uid=False)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture
def ramp() -> np.ndarray:
    return np.arange(4096, dtype=np.uint16).reshape(64, 64)


def test_monochrome1_is_the_negative_of_monochrome2(ramp):
    bright = read_bytes(dicom(ramp), "a.dcm").pixels
    dark = read_bytes(dicom(ramp, PhotometricInterpretation="MONOCHROME1"), "b.dcm").pixels
    assert bright[-1, -1] == 255
    assert dark[-1, -1] == 0
    assert np.abs(bright.astype(int) + dark - 255).max() <= 1


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_every_lossless_transfer_syntax_gives_the_same_pixels(ramp, syntax):
    expected = read_bytes(dicom(ramp), "plain.dcm").pixels
    try:
        content = dicom(ramp, syntax=syntax)
    except RuntimeError as error:
        pytest.skip(f"no encoder for {syntax.name} is installed: {error}")
    np.testing.assert_array_equal(read_bytes(content, "packed.dcm").pixels, expected)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_every_bit_depth_uses_the_whole_gray_range(bits):
    kind = np.uint8 if bits == 8 else np.uint16
    pixels = np.linspace(0, 2**bits - 1, 64 * 64).astype(kind).reshape(64, 64)
    read = read_bytes(dicom(pixels, bits), "deep.dcm")
    assert (read.pixels.min(), read.pixels.max()) == (0, 255)
    assert read.kind == "dicom"


def test_a_window_clips_what_lies_outside_it(ramp):
    windowed = read_bytes(dicom(ramp, WindowCenter=1000, WindowWidth=200), "w.dcm").pixels.ravel()
    assert not windowed[:890].any()
    assert (windowed[1110:] == 255).all()
    assert 100 < windowed[1000] < 155


def test_the_modality_rescale_comes_before_the_window(ramp):
    plain = read_bytes(dicom(ramp, WindowCenter=1000, WindowWidth=200), "w.dcm").pixels
    moved = read_bytes(
        dicom(ramp, RescaleSlope=2, RescaleIntercept=-500, WindowCenter=1500, WindowWidth=400), "m.dcm"
    ).pixels
    assert np.abs(plain.astype(int) - moved).max() <= 1


def test_signed_pixels_are_read_as_signed():
    pixels = np.linspace(-1000, 1000, 64 * 64).astype(np.int16).reshape(64, 64)
    read = read_bytes(dicom(pixels, 16), "signed.dcm")
    assert read.pixels[0, 0] == 0
    assert read.pixels[-1, -1] == 255


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_takes_no_part_in_the_range(ramp, photometric):
    padded = ramp.copy() // 8 + 100
    padded[:8] = 4000
    read = read_bytes(
        dicom(padded, PixelPaddingValue=4000, PhotometricInterpretation=photometric), "collimated.dcm"
    )
    assert not read.pixels[:8].any()
    assert read.pixels[8:].max() == 255


@pytest.mark.parametrize(
    ("elements", "why"),
    [
        ({"NumberOfFrames": 2}, "several frames"),
        ({"SamplesPerPixel": 3}, "color"),
        ({"Rows": 60_000, "Columns": 60_000}, "more than the limit"),
        ({"Rows": 65}, "cannot be decoded"),
    ],
)
def test_what_is_no_single_gray_frame_is_refused_with_the_reason(ramp, elements, why):
    with pytest.raises(UnreadableImage, match=rf"x\.dcm.*{why}"):
        read_bytes(dicom(ramp, **elements), "x.dcm")


def test_deflated_dicom_is_refused_without_inflating_it(ramp):
    with pytest.raises(UnreadableImage, match="deflated"):
        read_bytes(dicom(ramp, syntax=DeflatedExplicitVRLittleEndian), "d.dcm")


def test_a_dicom_file_without_an_image_says_so(ramp):
    dataset = pydicom.dcmread(io.BytesIO(dicom(ramp)))
    del dataset.PixelData
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    with pytest.raises(UnreadableImage, match="holds no image"):
        read_bytes(buffer.getvalue(), "sr.dcm")
