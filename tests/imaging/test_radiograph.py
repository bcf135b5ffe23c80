"""Files as archives and cameras really write them, and files that are none."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageFile

from trcgl.core.errors import UnreadableImage
from trcgl.imaging.gray import to_uint8
from trcgl.imaging.limits import Limits
from trcgl.imaging.radiograph import fit_square, read_bytes, read_radiograph


def encoded(pixels: np.ndarray, mode: str | None = None, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def gray() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)


@pytest.mark.parametrize("mode", [None, "RGB", "RGBA", "LA"])
def test_an_8_bit_png_keeps_its_values_in_every_color_mode(gray, mode):
    read = read_bytes(encoded(gray, mode), "one.png")
    np.testing.assert_array_equal(read.pixels, gray)
    assert read.pixel_range == (0.0, 255.0)
    assert read.kind == "png"


def test_a_palette_is_looked_up_rather_than_read_as_gray():
    picture = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), mode=None).convert("P")
    picture.putpalette([10, 10, 10, 200, 200, 200] + [0] * 762)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    assert set(read_bytes(buffer.getvalue(), "p.png").pixels.ravel()) <= {10, 200}


def test_transparent_pixels_keep_their_gray_value(gray):
    rgba = np.dstack([gray, gray, gray, np.zeros_like(gray)])
    np.testing.assert_array_equal(read_bytes(encoded(rgba), "a.png").pixels, gray)


def test_a_16_bit_png_is_stretched_over_its_own_range_and_not_saturated():
    ramp = np.linspace(1000, 5000, 64 * 64).astype(np.uint16).reshape(64, 64)
    read = read_bytes(encoded(ramp), "deep.png")
    assert read.pixel_range == pytest.approx(tuple(np.percentile(ramp, (0.5, 99.5))))
    assert len(np.unique(read.pixels)) == 256
    assert (read.pixels == 255).mean() < 0.02


def deep_png(channels: np.ndarray, color_type: int) -> bytes:
    """A 16-bit PNG of any color type; Pillow writes gray ones only."""
    rows, columns = channels.shape[:2]
    header = struct.pack(">IIBBBBB", columns, rows, 16, color_type, 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in channels)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("color_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bits_stay_16_bits_with_color_or_alpha(color_type, channels):
    ramp = np.arange(1000, 1000 + 64 * 64, dtype=np.uint16).reshape(64, 64)
    stack = np.repeat(ramp[..., None], channels, 2)
    if channels in (2, 4):
        stack[..., -1] = 65535
    read = read_bytes(deep_png(stack, color_type), "deep.png")
    assert read.pixel_range == pytest.approx(tuple(np.percentile(ramp, (0.5, 99.5))))
    assert len(np.unique(read.pixels)) == 256


def test_a_16_bit_color_png_becomes_luminance():
    stack = np.zeros((64, 64, 3), np.uint16)
    stack[:32, :, 0], stack[32:, :, 1] = 10_000, 10_000
    assert read_bytes(deep_png(stack, 2), "rgb.png").pixel_range == (2990.0, 5870.0)


def test_a_cut_off_file_is_refused_even_where_pillow_was_set_to_fill_it_up(monkeypatch, gray):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for kind in ("PNG", "JPEG"):
        with pytest.raises(UnreadableImage, match="cut off"):
            read_bytes(encoded(gray, kind=kind)[:-200], "short")
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@given(arrays.arrays(np.uint16, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_the_range_of_a_deep_picture_is_numpys_percentile(stored):
    low, high = np.percentile(stored, (0.5, 99.5))
    _, pixel_range = to_uint8(stored)
    assert pixel_range == pytest.approx((low, high) if high > low else (stored.min(), stored.max()))
    np.testing.assert_array_equal(to_uint8(stored)[0], to_uint8(stored.astype(np.int32))[0])


def test_a_jpeg_named_png_is_read_by_its_content(tmp_path, gray):
    path = tmp_path / "wrong.png"
    halves = np.repeat(np.array([77, 177], np.uint8), 16)[None].repeat(16, axis=0)
    path.write_bytes(encoded(halves, kind="JPEG"))
    read = read_radiograph(path)
    assert read.kind == "jpeg"
    assert np.abs(read.pixels.astype(int) - halves).max() <= 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"finding,image\n", "not a PNG, JPEG or DICOM"),
        (b"GIF89a" + b"\0" * 200, "not a PNG, JPEG or DICOM"),
        (encoded(np.zeros((60, 60), np.uint8))[:40], "damaged or cut off"),
        (encoded(np.random.default_rng(1).integers(0, 255, (60, 60), dtype=np.uint8))[:-900], "damaged or cut off"),
        (b"\xff\xd8\xff" + b"\0" * 50, "damaged or cut off"),
    ],
)
def test_what_is_no_radiograph_is_refused_with_its_name_and_the_reason(content, why):
    with pytest.raises(UnreadableImage, match=rf"patient7\.png.*{why}"):
        read_bytes(content, "patient7.png")


@pytest.mark.parametrize(
    ("side", "why"), [(12_000, "12000 x 12000 pixels, more than the limit"), (60_000, "too large to be a radiograph")]
)
def test_a_picture_that_announces_too_many_pixels_is_refused_before_it_is_decoded(side, why):
    bomb = bytearray(encoded(np.zeros((8, 8), np.uint8)))
    bomb[16:24] = side.to_bytes(4, "big") + side.to_bytes(4, "big")
    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    with pytest.raises(UnreadableImage, match=why):
        read_bytes(bytes(bomb), "bomb.png")


def test_a_file_larger_than_the_limit_is_not_even_read(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(b"\0" * 2000)
    with pytest.raises(UnreadableImage, match="2000 bytes, more than the limit of 1000"):
        read_radiograph(path, limits=Limits(bytes=1000))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UnreadableImage, match=r"gone\.png: No such file"):
        read_radiograph(Path(tmp_path / "gone.png"))


def test_letterbox_centers_the_picture_on_black_and_says_where_it_lies():
    square, placement = fit_square(np.full((100, 50), 200, np.uint8), 64)
    assert square.shape == (64, 64)
    assert (square[:, 16:48] == 200).all()
    assert not square[:, :16].any()
    assert not square[:, 48:].any()
    assert placement == (0.64, 0.64, 16.0, 0.0)


def test_squash_fills_the_square():
    square, placement = fit_square(np.full((100, 50), 200, np.uint8), 64, "squash")
    assert (square == 200).all()
    assert placement == (1.28, 0.64, 0.0, 0.0)


def test_shrinking_averages_rather_than_picks():
    checker = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    square, _ = fit_square(checker, 64)
    assert np.abs(square.astype(int) - 127).max() <= 2


def test_a_constant_deep_picture_is_black_rather_than_a_division_by_zero():
    pixels, pixel_range = to_uint8(np.full((4, 4), 900, np.uint16))
    assert not pixels.any()
    assert pixel_range == (900.0, 900.0)


@settings(max_examples=60)
@given(st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\0" * 128 + b"DICM"]))
def test_no_bytes_whatever_raise_anything_but_unreadable_image(content, start):
    with pytest.raises(UnreadableImage):
        read_bytes(start + content, "noise")
