"""DICOM files with headers that users of other tools reported, each read as the picture that it holds or refused."""

import io
import struct
import zlib

import gdcm
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset

from tests.imaging.dicom_files import dicom, jpeg, packed, with_frame
from trcgl.core.errors import REASONS, NotAccepted, UnreadableImage
from trcgl.imaging.notes import NOTES
from trcgl.imaging.radiograph import read_bytes

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
WINDOW = {"WindowCenter": 2047.5, "WindowWidth": 4096}
ALL = frozenset(REASONS)


def read(content: bytes):
    return read_bytes(content, "a.dcm")


def item(descriptor, data, kind="US") -> Dataset:
    """An item of a LUT sequence, its data in words (US, OW) or bytes."""
    found = Dataset()
    found.add_new("LUTDescriptor", "US", descriptor)
    found.add_new("LUTData", kind, data)
    return found


def without(keyword: str, content: bytes) -> bytes:
    """The file without an element, which may be of the file meta information."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    delattr(dataset.file_meta if keyword in dataset.file_meta else dataset, keyword)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def bare(content: bytes, *, implicit: bool) -> bytes:
    """The dataset alone, without preamble and file meta information."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    plain = Dataset()
    plain.update({tag: dataset.get_item(tag) for tag in dataset.keys()})  # noqa: SIM118
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, plain, implicit_vr=implicit, little_endian=True)
    return buffer.getvalue()


LINEAR = np.linspace(0, 65535, 4096).astype(np.uint16)
EIGHT = (LINEAR >> 8).astype(np.uint16)
AS_PLAIN = {
    "width 0": (dicom(RAMP, WindowCenter=2048, WindowWidth=0), ["window-ignored"]),
    "width negative": (dicom(RAMP, WindowCenter=2048, WindowWidth=-4096), ["window-ignored"]),
    "empty window": (dicom(RAMP, WindowCenter=None, WindowWidth=None), []),
    "center alone": (dicom(RAMP, WindowCenter=2048), ["window-ignored"]),
    "width below 1": (
        dicom(RAMP, WindowCenter=0.45, WindowWidth=0.9, RescaleIntercept=0, RescaleSlope="0.00024"),
        ["window-ignored"],
    ),
    "first of two windows invalid": (
        dicom(RAMP, WindowCenter=[0, 2047.5], WindowWidth=[0, 4096]),
        ["window-ignored"],
    ),
    "two centers, one width": (dicom(RAMP, WindowCenter=[2047.5, 100], WindowWidth=4096), []),
    "VOILUTFunction empty": (dicom(RAMP, **WINDOW, VOILUTFunction=""), ["voi-function-ignored"]),
    "VOILUTFunction unknown": (dicom(RAMP, **WINDOW, VOILUTFunction="STANDARD"), ["voi-function-ignored"]),
    "window with commas": (
        dicom(RAMP, WindowCenter="2047.25", WindowWidth="4096.25")
        .replace(b"2047.25", b"2047,25")
        .replace(b"4096.25", b"4096,25"),
        ["window-ignored"],
    ),
    "window AUTO": (dicom(RAMP, WindowCenter="1234", WindowWidth="4096").replace(b"1234", b"AUTO"), ["window-ignored"]),
    "window NaN": (dicom(RAMP, WindowCenter="1234", WindowWidth="4096").replace(b"1234", b"NaN "), ["window-ignored"]),
    "rescale empty": (dicom(RAMP, RescaleSlope=None, RescaleIntercept=None), ["rescale-ignored"]),
    "rescale empty, window": (dicom(RAMP, RescaleSlope=None, RescaleIntercept=None, **WINDOW), ["rescale-ignored"]),
    "slope 0": (dicom(RAMP, RescaleSlope=0, RescaleIntercept=0), ["rescale-ignored"]),
    "intercept alone": (dicom(RAMP, RescaleIntercept=-1024), ["rescale-ignored"]),
    "bits above BitsStored": (dicom(RAMP | 0xF000), []),
    "left-aligned": (dicom(RAMP << 4, HighBit=15), []),
    "HighBit too low": (dicom(RAMP, HighBit=7), ["high-bit-ignored"]),
    "two PixelPaddingValues": (dicom(RAMP, PixelPaddingValue=[0, 4095]), ["padding-ignored"]),
    "empty PixelPaddingValue": (dicom(RAMP, PixelPaddingValue=None), ["padding-ignored"]),
    "empty range limit": (dicom(RAMP, PixelPaddingValue=0, PixelPaddingRangeLimit=None), ["padding-ignored"]),
    "case of MONOCHROME2": (dicom(RAMP, PhotometricInterpretation="Monochrome2"), []),
    "no SamplesPerPixel": (without("SamplesPerPixel", dicom(RAMP)), []),
    "empty NumberOfFrames": (dicom(RAMP, NumberOfFrames=None), []),
    "one frame": (dicom(RAMP, NumberOfFrames=1), []),
    "no preamble": (dicom(RAMP)[132:], []),
    "no meta, implicit": (bare(dicom(RAMP), implicit=True), ["encoding-guessed"]),
    "no meta, explicit": (bare(dicom(RAMP), implicit=False), ["encoding-guessed"]),
    "preamble, no meta": (bytes(128) + b"DICM" + bare(dicom(RAMP), implicit=True), ["encoding-guessed"]),
    "no TransferSyntaxUID": (without("TransferSyntaxUID", dicom(RAMP)), ["encoding-guessed"]),
    "more pixels than needed": (dicom(RAMP, PixelData=RAMP.tobytes() + bytes(1000)), []),
    "VOI LUT in words": (dicom(RAMP, VOILUTSequence=[item([4096, 0, 16], LINEAR.tolist())]), []),
    "VOI LUT cut off": (dicom(RAMP, VOILUTSequence=[item([4096, 0, 16], [1, 2])], **WINDOW), ["voi-lut-ignored"]),
    "VOI LUT empty": (dicom(RAMP, VOILUTSequence=[item(None, None)], **WINDOW), ["voi-lut-ignored"]),
    "VOI LUT after a rescale": (
        dicom(RAMP, VOILUTSequence=[item([4096, 0, 16], LINEAR.tolist())], RescaleSlope=1, RescaleIntercept=0),
        [],
    ),
    "VOI LUT, first value negative as US": (
        dicom(RAMP, VOILUTSequence=[item([4096, 63488, 16], LINEAR.tolist())], RescaleSlope=1, RescaleIntercept=-2048),
        [],
    ),
    "modality LUT of 12 bits": (dicom(RAMP, ModalityLUTSequence=[item([4096, 0, 12], list(range(4096)))]), []),
    "modality LUT empty": (dicom(RAMP, ModalityLUTSequence=[item(None, None)]), ["modality-lut-ignored"]),
    "MONOCHROME2, INVERSE": (dicom(RAMP, PresentationLUTShape="INVERSE"), ["presentation-ignored"]),
    "MONOCHROME2, IDENTITY": (dicom(RAMP, PresentationLUTShape="IDENTITY"), []),
    "negative slope twice": (
        dicom(4095 - RAMP, RescaleSlope=-1, RescaleIntercept=4095, **WINDOW),
        [],
    ),
    "spacing with a comma": (
        dicom(RAMP, PixelSpacing=["0.143", "0.143"]).replace(b"0.143", b"0,143"),
        ["aspect-ignored"],
    ),
}


@pytest.mark.parametrize("case", AS_PLAIN)
def test_the_picture_is_that_of_the_plain_file(case):
    content, notes = AS_PLAIN[case]
    found = read(content)
    assert np.abs(found.pixels.astype(int) - read(dicom(RAMP)).pixels).max() <= 1
    assert list(found.notes) == notes
    assert set(notes) <= set(NOTES)


@pytest.mark.parametrize("kind", ["US", "OW", "bytes"])
@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_of_8_bits_is_read_from_words_and_from_packed_bytes(sequence, kind):
    data = {"US": EIGHT.tolist(), "OW": EIGHT.tobytes(), "bytes": EIGHT.astype(np.uint8).tobytes()}[kind]
    found = read(dicom(RAMP, **{sequence: [item([4096, 0, 8], data, "US" if kind == "US" else "OW")]}))
    # 256 steps of the ramp, from the first to the last percentile
    expected = np.clip((EIGHT.reshape(64, 64) - 1.0) / 253 * 255, 0, 255)
    assert np.abs(found.pixels - expected).max() <= 1.5


def test_a_table_in_implicit_vr_begins_at_a_negative_value():
    sequence = [item([4096, 64512, 16], LINEAR.tolist())]
    elements = {"VOILUTSequence": sequence, "RescaleSlope": 1, "RescaleIntercept": -1024}
    content = dicom(RAMP, syntax=uid.ImplicitVRLittleEndian, **elements)
    assert np.abs(read(content).pixels.astype(int) - read(dicom(RAMP)).pixels).max() <= 1


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_negative_slope_is_not_inverted_by_a_window(function, photometric):
    elements = {"WindowCenter": 2000, "WindowWidth": 1500, "VOILUTFunction": function}
    found = read(dicom(RAMP, PhotometricInterpretation=photometric, RescaleSlope=-1, RescaleIntercept=4095, **elements))
    mirrored = read(dicom(4095 - RAMP, PhotometricInterpretation=photometric, **elements))
    assert np.abs(found.pixels.astype(int) - mirrored.pixels).max() <= 1
    assert found.pixels[0, 0] == (255 if photometric == "MONOCHROME2" else 0)


@pytest.mark.parametrize("kind", ["US", "SS"])
def test_padding_of_a_signed_image_is_read_in_either_vr(kind):
    signed = (RAMP // 2).astype(np.int16) - 1000
    signed[:8] = -2000
    content = dicom(signed, 16)
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.add_new("PixelPaddingValue", kind, -2000 if kind == "SS" else 63536)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    found = read(buffer.getvalue())
    assert not found.pixels[:8].any()
    assert found.pixel_range[0] > -1000


def test_signed_samples_whose_upper_bits_are_not_those_of_the_sign(tmp_path):
    signed = RAMP.astype(np.int16) - 2048
    plain = read(dicom(signed, 12)).pixels
    words = (signed & 0x0FFF).astype(np.uint16)
    np.testing.assert_array_equal(read(dicom(words, 12, PixelRepresentation=1)).pixels, plain)
    # The compressed image has 16 bits, of which the header names 12.
    content = packed(dicom(words, 16), gdcm.TransferSyntax.JPEGLSLossless, tmp_path)
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 1
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    np.testing.assert_array_equal(read(buffer.getvalue()).pixels, plain)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("JPEG lossless", gdcm.TransferSyntax.JPEGLosslessProcess14_1),
        ("JPEG-LS", gdcm.TransferSyntax.JPEGLSLossless),
        ("JPEG 2000", gdcm.TransferSyntax.JPEG2000Lossless),
        ("RLE", gdcm.TransferSyntax.RLELossless),
    ],
)
@pytest.mark.parametrize("elements", [{}, {"PhotometricInterpretation": "MONOCHROME1"}])
def test_compressed_files_are_read_as_the_plain_file(kind, code, elements, tmp_path):
    content = dicom(RAMP, **elements)
    np.testing.assert_array_equal(read(packed(content, code, tmp_path)).pixels, read(content).pixels)


def test_a_cut_last_delimiter_is_noted_and_a_cut_frame_refused(tmp_path):
    content = packed(dicom(RAMP), gdcm.TransferSyntax.JPEGLSLossless, tmp_path)
    assert content.endswith(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
    found = read(content[:-8])
    np.testing.assert_array_equal(found.pixels, read(content).pixels)
    assert found.notes == ("end-missing",)
    with pytest.raises(UnreadableImage, match=r"cut off within PixelData \(7FE0,0010\)"):
        read(content[:-500])


SMOOTH = np.add.outer(np.arange(64), np.arange(64) * 3).astype(np.uint8)
FRAME = jpeg(SMOOTH)


@pytest.mark.parametrize(
    ("frame", "notes"),
    [
        (FRAME[:2] + b"\xff\xff\xff" + FRAME[2:], ()),
        (FRAME[:2] + b"\xff\xfe\x00\x08hello!" + FRAME[2:], ()),
        (FRAME[:-2], ("end-missing",)),
    ],
    ids=["fill bytes", "comment", "no EOI"],
)
def test_odd_jpeg_streams_hold_the_same_picture(frame, notes):
    plain = dicom(SMOOTH, 8)
    found = read(with_frame(plain, frame, uid.JPEGBaseline8Bit))
    np.testing.assert_array_equal(found.pixels, read(with_frame(plain, FRAME, uid.JPEGBaseline8Bit)).pixels)
    assert found.notes == notes


def test_a_jpeg_stream_that_lacks_pixels_is_refused():
    for missing in (20, 100):
        with pytest.raises(UnreadableImage, match="damaged or cut off"):
            read(with_frame(dicom(SMOOTH, 8), FRAME[:-missing], uid.JPEGBaseline8Bit))


def color(planes, photometric="RGB", **elements) -> bytes:
    stack = np.stack(planes, -1)
    content = {"SamplesPerPixel": 3, "PhotometricInterpretation": photometric, "PlanarConfiguration": 0, **elements}
    return dicom(stack[..., 0], 8, PixelData=stack.tobytes(), **content)


def test_gray_that_is_stored_as_color_is_gray():
    found = read(color([SMOOTH] * 3))
    np.testing.assert_array_equal(found.pixels, SMOOTH)
    assert found.notes == ("gray-from-color",)
    middle = np.full_like(SMOOTH, 128)
    np.testing.assert_array_equal(read(color([SMOOTH, middle, middle], "YBR_FULL")).pixels, SMOOTH)
    with pytest.raises(UnreadableImage, match=r"PhotometricInterpretation \(0028,0004\) is RGB: it is in color"):
        read(color([SMOOTH, SMOOTH.T, SMOOTH]))


def test_a_gray_palette_is_looked_up():
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{name}PaletteColorLookupTableData"] = (np.arange(256)[::-1] * 256).astype("<u2").tobytes()
    found = read(dicom(SMOOTH, 8, **palette))
    assert np.corrcoef(found.pixels.ravel(), SMOOTH.ravel())[0, 1] < -0.99
    assert found.notes == ("gray-from-color",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (without("PhotometricInterpretation", dicom(RAMP)), r"PhotometricInterpretation \(0028,0004\) is missing"),
        (without("PixelRepresentation", dicom(RAMP)), r"PixelRepresentation \(0028,0103\) is missing"),
        (without("BitsStored", dicom(RAMP)), r"BitsStored \(0028,0101\) is missing"),
        (without("Rows", dicom(RAMP)), r"Rows \(0028,0010\) is missing"),
        (dicom(RAMP, BitsStored=17), r"BitsStored \(0028,0101\) is 17\. BitsAllocated \(0028,0100\) is 16"),
        (dicom(RAMP, BitsAllocated=1), r"BitsAllocated \(0028,0100\) is 1\. Radiographs have 8, 16 or 32"),
        (dicom(RAMP, NumberOfFrames=12), r"NumberOfFrames \(0028,0008\) is 12\..* `dcm2pnm \+F 1`"),
        (dicom(RAMP, PhotometricInterpretation="HSV"), r"PhotometricInterpretation \(0028,0004\) is HSV"),
        (dicom(RAMP, SamplesPerPixel=3), r"SamplesPerPixel \(0028,0002\) is 3\. PhotometricInterpretation .*color"),
        (dicom(RAMP)[:-40], r"PixelData \(7FE0,0010\) has 8152 bytes, and Rows, .* need 8192"),
        (
            dicom(RAMP, syntax=uid.ImplicitVRLittleEndian).replace(b"1.2.840.10008.1.2\0", b"1.2.840.10008.9.9\0"),
            r"TransferSyntaxUID \(0002,0010\) is 1\.2\.840\.10008\.9\.9, for which there is no decoder",
        ),
    ],
)
def test_a_refusal_names_the_element_and_its_value(content, message):
    with pytest.raises(UnreadableImage, match=message) as refused:
        read(content)
    assert "damaged" not in str(refused.value)


def test_floating_point_pixels_are_refused_by_name():
    content = without("PixelData", dicom(RAMP, FloatPixelData=RAMP.astype("<f4").tobytes()))
    with pytest.raises(UnreadableImage, match=r"FloatPixelData \(7FE0,0008\) holds floating-point values"):
        read(content)


def test_32_bits_and_4_bits_are_read():
    plain = read(dicom(RAMP)).pixels
    deep = {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31, "PixelData": (RAMP.astype("<u4") << 16).tobytes()}
    assert np.abs(read(dicom(RAMP, **deep)).pixels.astype(int) - plain).max() <= 1
    four = read(dicom((RAMP >> 8).astype(np.uint8), 8, BitsStored=4, HighBit=3))
    np.testing.assert_array_equal(np.unique(four.pixels), np.arange(16) * 17)


@pytest.mark.parametrize(
    ("elements", "reason", "message"),
    [
        (
            {"PresentationIntentType": "FOR PROCESSING"},
            "for-processing",
            r"PresentationIntentType \(0008,0068\) is FOR PROCESSING",
        ),
        (
            {"SOPClassUID": uid.DigitalXRayImageStorageForProcessing},
            "for-processing",
            r"SOPClassUID \(0008,0016\) is For Processing",
        ),
        ({"Modality": "CT"}, "modality", r"Modality \(0008,0060\) is CT"),
        ({"BodyPartExamined": "KNEE"}, "body-part", r"BodyPartExamined \(0018,0015\) is KNEE"),
        ({"BodyPartExamined": "THORACIC SPINE"}, "body-part", "THORACIC SPINE"),
        ({"WindowCenter": 40000, "WindowWidth": 100}, "blank", r"WindowCenter \(0028,1050\) is 40000"),
    ],
)
def test_what_is_no_chest_radiograph_for_display_is_read_only_if_accepted(elements, reason, message):
    content = dicom(RAMP, **elements)
    with pytest.raises(NotAccepted, match=f"{message}.*--accept {reason}") as refused:
        read(content)
    assert refused.value.reason == reason
    with pytest.raises(NotAccepted):
        read_bytes(content, "a.dcm", accept=ALL - {reason})
    assert read_bytes(content, "a.dcm", accept=frozenset({reason})).pixels.shape == (64, 64)


@pytest.mark.parametrize(
    "elements",
    [
        {"Modality": "CR", "BodyPartExamined": "CHEST", "PresentationIntentType": "FOR PRESENTATION"},
        {"Modality": "DX", "BodyPartExamined": "Tórax".encode("latin-1").decode("latin-1").upper()},
        {"Modality": "DR", "BodyPartExamined": "PORT CHEST"},
        {"Modality": "OT", "BodyPartExamined": ""},
        {"Modality": ""},
    ],
)
def test_radiographs_of_the_chest_are_accepted(elements):
    assert read(dicom(RAMP, **elements)).pixels.any()


def test_a_constant_picture_is_blank():
    for content in (dicom(np.full((8, 8), 900, np.uint16)), dicom(np.full((8, 8), 90, np.uint8), 8)):
        with pytest.raises(NotAccepted, match="all pixels have the same gray value"):
            read(content)


def test_pixels_that_are_not_square_are_stretched_and_placed():
    half = RAMP[::2]
    for elements in ({"PixelAspectRatio": [2, 1]}, {"PixelSpacing": [0.4, 0.2]}, {"ImagerPixelSpacing": [0.4, 0.2]}):
        found = read_bytes(dicom(half, **elements), "a.dcm", size=32)
        assert found.notes == ("aspect-applied",)
        assert found.original_size == (32, 64)
        assert found.placement == (0.5, 1.0, 0.0, 0.0)
        assert found.pixels.shape == (32, 32)
        whole = read(dicom(half, **elements)).pixels
        assert whole.shape == (64, 64)
        assert np.abs(whole.astype(int) - read(dicom(RAMP)).pixels).max() <= 6
    assert read(dicom(half, PixelSpacing=[0.2, 0.2], PixelAspectRatio=[2, 1])).pixels.shape == (32, 64)


MARKED = np.zeros((60, 40), np.uint16)
MARKED[5:15, 2:8] = 1000
MARKED[:, 20:] += 3
MARKED[40:] += 100


def directions(pixels, orientation, **elements) -> np.ndarray:
    return read(dicom(pixels, PatientOrientation=orientation, **elements)).pixels


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (["L", "F"], MARKED),
        (["R", "F"], MARKED[:, ::-1]),
        (["L", "H"], MARKED[::-1]),
        (["R", "H"], MARKED[::-1, ::-1]),
        (["F", "L"], MARKED.T),
        (["H", "L"], MARKED.T[:, ::-1]),
        (["F", "R"], MARKED.T[::-1]),
        (["H", "R"], MARKED.T[::-1, ::-1]),
    ],
)
def test_a_frontal_picture_is_turned_as_patient_orientation_says(orientation, stored):
    upright = read(dicom(MARKED))
    found = read(dicom(np.ascontiguousarray(stored), PatientOrientation=orientation, ViewPosition="PA"))
    np.testing.assert_array_equal(found.pixels, upright.pixels)
    assert found.original_size == stored.shape
    assert found.notes == (() if orientation == ["L", "F"] else ("orientation-applied",))


@pytest.mark.parametrize(
    "elements",
    [
        {"PatientOrientation": ["A", "F"]},
        {"PatientOrientation": ["R", "F"], "ViewPosition": "LL"},
        {"PatientOrientation": ["R", "L"]},
        {"PatientOrientation": ["R"]},
        {"PatientOrientation": None},
    ],
)
def test_other_orientations_are_left_as_they_are(elements):
    np.testing.assert_array_equal(read(dicom(MARKED, **elements)).pixels, read(dicom(MARKED)).pixels)


def test_a_single_frame_in_functional_groups_has_its_own_rescale_and_window():
    transformation, voi, group = Dataset(), Dataset(), Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = -1, 4095
    voi.WindowCenter, voi.WindowWidth = 1000, 500
    group.PixelValueTransformationSequence, group.FrameVOILUTSequence = [transformation], [voi]
    found = read(dicom(RAMP, NumberOfFrames=1, SharedFunctionalGroupsSequence=[group]))
    expected = read(dicom(4095 - RAMP, WindowCenter=1000, WindowWidth=500))
    assert np.abs(found.pixels.astype(int) - expected.pixels).max() <= 1


def test_a_picture_of_12_bits_in_jpeg_extended_is_read():
    from trcgl.doctor.sample_files import is_picture, sample

    assert is_picture(read(sample("JPEGExtended12Bit")).pixels)


def picture(pixels, kind, turn) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


TURNED = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.T,
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].T,
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("turn", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_turned_as_exif_says(kind, turn):
    upright = np.repeat(np.repeat(np.arange(0, 240, 10, dtype=np.uint8).reshape(6, 4), 8, 0), 8, 1)
    found = read_bytes(picture(np.ascontiguousarray(TURNED[turn](upright)), kind, turn), "a.png")
    assert np.abs(found.pixels.astype(int) - upright).max() <= (3 if kind == "JPEG" else 0)
    assert found.notes == ("orientation-applied",)
    assert found.turn == turn


def test_a_jpeg_picture_without_its_end_is_read_and_a_shorter_one_refused():
    for missing in (1, 2):
        found = read_bytes(FRAME[:-missing], "a.jpg")
        np.testing.assert_array_equal(found.pixels, read_bytes(FRAME, "a.jpg").pixels)
        assert found.notes == ("end-missing",)
    with pytest.raises(UnreadableImage, match="damaged or cut off"):
        read_bytes(FRAME[: len(FRAME) * 2 // 3], "a.jpg")


@pytest.mark.parametrize("value", [0, 255])
def test_a_blank_picture_is_refused_also_if_the_image_is_in_its_alpha(value):
    flat = np.full((64, 64), value, np.uint8)
    for pixels in (flat, np.dstack([flat, SMOOTH])):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        with pytest.raises(NotAccepted, match="all pixels have the same gray value"):
            read_bytes(buffer.getvalue(), "a.png")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 2_000_000)),
        chunk(b"iCCP", b"ICC\0\1" + zlib.compress(b"abc")),
        chunk(b"tEXt", b"Comment\0hi")[:-4] + bytes(4),
    ],
    ids=["large text", "unknown profile", "text with a wrong checksum"],
)
def test_a_png_picture_is_read_whatever_lies_beside_its_pixels(extra):
    buffer = io.BytesIO()
    Image.fromarray(SMOOTH).save(buffer, "PNG")
    content = buffer.getvalue()
    found = read_bytes(content[:33] + extra + content[33:], "a.png")
    np.testing.assert_array_equal(found.pixels, SMOOTH)
    assert found.notes == ("comment-ignored",)
    with pytest.raises(UnreadableImage, match="damaged or cut off"):
        read_bytes(content[:33] + extra + content[33:-40], "a.png")
