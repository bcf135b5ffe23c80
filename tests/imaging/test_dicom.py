"""DICOM files that the tests write themselves, in the encodings that detectors and archives use."""

import io
import struct
import sys

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.imaging.dicom_files import dicom, jpeg, lut, packed, with_frame
from trcgl.core.errors import DataError, TooLarge, UnreadableImage
from trcgl.imaging import dicom_frame
from trcgl.imaging.gdcm_process import GdcmProcess
from trcgl.imaging.limits import Limits
from trcgl.imaging.radiograph import read_bytes


@pytest.fixture
def ramp() -> np.ndarray:
    return np.arange(4096, dtype=np.uint16).reshape(64, 64)


def test_monochrome1_is_the_negative_of_monochrome2(ramp):
    bright = read_bytes(dicom(ramp), "a.dcm").pixels
    dark = read_bytes(dicom(ramp, PhotometricInterpretation="MONOCHROME1"), "b.dcm").pixels
    assert bright[-1, -1] == 255
    assert dark[-1, -1] == 0
    assert np.abs(bright.astype(int) + dark - 255).max() <= 1


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_every_lossless_transfer_syntax_gives_the_same_pixels(ramp, syntax):
    content = dicom(ramp, syntax=syntax)
    assert pydicom.dcmread(io.BytesIO(content)).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_bytes(content, "packed.dcm").pixels, read_bytes(dicom(ramp), "plain.dcm").pixels)


@pytest.mark.parametrize(
    ("code", "syntax"),
    [
        (gdcm.TransferSyntax.JPEGLosslessProcess14_1, JPEGLosslessSV1),
        (gdcm.TransferSyntax.JPEGLSLossless, JPEGLSLossless),
    ],
)
def test_lossless_jpeg_and_jpeg_ls_give_the_same_pixels(ramp, tmp_path, code, syntax):
    content = packed(dicom(ramp), code, tmp_path)
    assert pydicom.dcmread(io.BytesIO(content)).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_bytes(content, "packed.dcm").pixels, read_bytes(dicom(ramp), "plain.dcm").pixels)


@pytest.mark.parametrize("code", [gdcm.TransferSyntax.JPEGLosslessProcess14_1, gdcm.TransferSyntax.JPEGLSLossless])
def test_a_file_that_would_kill_the_decoder_is_refused_and_the_next_one_is_read(ramp, tmp_path, code):
    """Gdcm aborts its process on many damaged files; which ones differs between its versions."""
    content = packed(dicom(ramp), code, tmp_path)
    start = content.index(b"\xff\xd8\xff")
    for place in range(start + 2, start + 60, 3):
        damaged = bytearray(content)
        damaged[place : place + 2] = b"\xff\xff"
        try:
            read_bytes(bytes(damaged), "damaged.dcm")
        except UnreadableImage as error:
            assert "damaged.dcm" in str(error)
    assert read_bytes(content, "whole.dcm").pixels.max() == 255


def test_a_decoder_that_cannot_be_started_is_no_fault_of_the_file(ramp, tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_frame, "_gdcm", GdcmProcess())
    monkeypatch.setattr(dicom_frame._gdcm, "_module", "trcgl.no_such_module")
    with pytest.raises(DataError, match="cannot be started"):
        read_bytes(packed(dicom(ramp), gdcm.TransferSyntax.JPEGLSLossless, tmp_path), "whole.dcm")


def test_lossy_jpeg_is_read_to_within_its_loss():
    ramp = np.add.outer(np.arange(64), np.arange(64) * 2).astype(np.uint8)
    content = with_frame(dicom(ramp, 8), jpeg(ramp), JPEGBaseline8Bit)
    assert np.abs(read_bytes(content, "lossy.dcm").pixels.astype(int) - ramp).max() <= 6


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (np.zeros((900, 900), np.uint8), "64 x 64 pixels and the compressed image 900 x 900"),
        (np.zeros((64, 64, 3), np.uint8), "color"),
    ],
)
def test_a_compressed_image_other_than_its_header_says_is_refused_before_decoding(frame, why):
    content = with_frame(dicom(np.zeros((64, 64), np.uint8), 8), jpeg(frame), JPEGBaseline8Bit)
    with pytest.raises(UnreadableImage, match=why):
        read_bytes(content, "other.dcm")


def test_a_run_length_bomb_is_refused_before_decoding():
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * 50_000
    content = with_frame(dicom(np.zeros((64, 64), np.uint8), 8), frame, RLELossless)
    with pytest.raises(UnreadableImage, match="run lengths exceed 64 x 64"):
        read_bytes(content, "bomb.dcm")


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


def test_the_first_of_several_windows_counts(ramp):
    single = read_bytes(dicom(ramp, WindowCenter=1000, WindowWidth=200), "one.dcm").pixels
    several = read_bytes(dicom(ramp, WindowCenter=[1000, 3000], WindowWidth=[200, 50]), "two.dcm").pixels
    np.testing.assert_array_equal(single, several)


def test_a_linear_exact_window_has_no_half_pixel_shift_and_a_sigmoid_no_corner(ramp):
    window = {"WindowCenter": 2048, "WindowWidth": 1000}
    exact = read_bytes(dicom(ramp, VOILUTFunction="LINEAR_EXACT", **window), "e.dcm").pixels.ravel()
    assert exact[1548] == 0
    assert exact[2548] == 255
    sigmoid = read_bytes(dicom(ramp, VOILUTFunction="SIGMOID", **window), "s.dcm").pixels.ravel()
    assert 0 < sigmoid[1548] < 50
    assert 205 < sigmoid[2548] < 255


def test_a_voi_lut_goes_before_a_window(ramp):
    steps = np.repeat(np.arange(4), 1024) * 20_000
    read = read_bytes(dicom(ramp, VOILUTSequence=[lut(steps)], WindowCenter=5, WindowWidth=2), "lut.dcm")
    assert np.unique(read.pixels).tolist() == [0, 85, 170, 255]


def test_a_modality_lut_is_looked_up(ramp):
    mapped = read_bytes(dicom(ramp, ModalityLUTSequence=[lut(np.arange(4096)[::-1])], ModalityLUTType="US"), "mod.dcm")
    plain = read_bytes(dicom(ramp), "plain.dcm")
    assert np.abs(mapped.pixels.astype(int) + plain.pixels - 255).max() <= 1


def test_8_bit_monochrome1_keeps_its_values_inverted():
    pixels = np.arange(10, 110, dtype=np.uint8).reshape(10, 10)
    read = read_bytes(dicom(pixels, 8, PhotometricInterpretation="MONOCHROME1"), "m1.dcm")
    np.testing.assert_array_equal(read.pixels, 255 - pixels)
    assert read.pixel_range == (255.0, 0.0)


def test_what_lies_in_unused_bits_is_not_seen(ramp):
    dirty = ramp | 0xF000
    np.testing.assert_array_equal(read_bytes(dicom(dirty), "d.dcm").pixels, read_bytes(dicom(ramp), "c.dcm").pixels)


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
    read = read_bytes(dicom(padded, PixelPaddingValue=4000, PhotometricInterpretation=photometric), "collimated.dcm")
    assert not read.pixels[:8].any()
    assert read.pixels[8:].max() == 255


@pytest.mark.parametrize(
    "elements", [{"RescaleSlope": "1", "RescaleIntercept": "0"}, {"WindowCenter": "128", "WindowWidth": "256"}]
)
def test_eight_bits_are_kept_as_they_are_but_stretched_after_a_rescale_or_a_window(elements):
    stored = np.linspace(60, 120, 64, dtype=np.uint8).reshape(8, 8)
    np.testing.assert_array_equal(read_bytes(dicom(stored, bits=8), "plain.dcm").pixels, stored)
    stretched = read_bytes(dicom(stored, bits=8, **elements), "window.dcm").pixels
    assert (stretched.min(), stretched.max()) == (0, 255)


@pytest.mark.parametrize(
    ("elements", "why"),
    [
        ({"NumberOfFrames": 2}, r"NumberOfFrames \(0028,0008\) is 2.*dcm2pnm"),
        ({"SamplesPerPixel": 3}, "color"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "RedPaletteColorLookupTableData .*is missing"),
        ({"Rows": 60_000, "Columns": 60_000}, "more than the limit"),
        ({"Rows": 65}, "8192 bytes, and Rows, Columns and BitsAllocated need 8320"),
    ],
)
def test_what_is_no_single_gray_frame_is_refused_with_the_reason(ramp, elements, why):
    with pytest.raises(UnreadableImage, match=rf"x\.dcm.*{why}"):
        read_bytes(dicom(ramp, **elements), "x.dcm")


def test_deflated_dicom_is_read_and_inflated_only_to_the_limit(ramp):
    content = dicom(ramp, syntax=DeflatedExplicitVRLittleEndian)
    np.testing.assert_array_equal(read_bytes(content, "d.dcm").pixels, read_bytes(dicom(ramp), "plain.dcm").pixels)
    bomb = dicom(np.zeros((4000, 4000), np.uint16), syntax=DeflatedExplicitVRLittleEndian)
    assert len(bomb) < 100_000
    with pytest.raises(TooLarge, match="inflates to more than the limit of 1000000 bytes"):
        read_bytes(bomb, "bomb.dcm", limits=Limits(bytes=1_000_000))


def test_a_dicom_file_without_an_image_says_so(ramp):
    dataset = pydicom.dcmread(io.BytesIO(dicom(ramp)))
    del dataset.PixelData
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    with pytest.raises(UnreadableImage, match="holds no image"):
        read_bytes(buffer.getvalue(), "sr.dcm")


def test_without_pydicom_the_message_says_what_to_install(ramp, monkeypatch):
    content = dicom(ramp)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UnreadableImage, match=r"pip install 'trcgl-net\[dicom\]'"):
        read_bytes(content, "a.dcm")
