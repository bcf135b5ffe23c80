"""Orientation and contrast of pydicom's own test files, against DCMTK."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data.data_manager import DATA_ROOT

from trcgl.core.errors import REASONS, UnreadableImage
from trcgl.imaging.radiograph import read_radiograph

PROGRAMS = ("dcmj2pnm", "dcml2pnm")
FILES = sorted(path for path in (Path(DATA_ROOT) / "test_files").rglob("*") if path.is_file())
EXPLAINED = {
    "test_files/JPEGLSNearLossless_16.dcm": "seven flat bars, of which two share a gray of 8 bits between the extremes",
    "test_files/dicomdirtests/77654033/CT2/17136": "its window leaves a few pixels below white, all in the percentile",
    "test_files/rtdose_expb_1frame.dcm": "DCMTK exchanges the halves of big-endian words of 32 bits",
}
"""File to the reason why it is shown differently."""

pytestmark = pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason="DCMTK is not installed")


def rendered(path: Path, out: Path) -> np.ndarray | None:
    """DCMTK's picture: with the first VOI LUT or window of the file, or stretched from minimum to maximum."""
    header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    window = ["+Wl", "1"] if header.get("VOILUTSequence") else ["+Wi", "1"] if header.get("WindowWidth") else ["+Wm"]
    for program in PROGRAMS:
        command = [program, "--write-png", *window, str(path), str(out)]
        if subprocess.run(command, capture_output=True, timeout=60).returncode == 0 and out.exists():
            return np.asarray(Image.open(out).convert("L"))
    return None


def ranks(pixels: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - counts / 2)[places.ravel()]


def test_orientation_and_contrast_are_those_of_dcmtk(tmp_path):
    compared, different = 0, {}
    for number, path in enumerate(FILES):
        try:
            found = read_radiograph(path, accept=frozenset(REASONS))
        except UnreadableImage:
            continue
        expected = rendered(path, tmp_path / f"{number}.png")
        if expected is None:
            continue
        compared += 1
        if "aspect-applied" in found.notes:
            height, width = found.pixels.shape
            expected = np.asarray(Image.fromarray(expected).resize((width, height), Image.Resampling.BILINEAR))
        name = str(path.relative_to(DATA_ROOT))
        if expected.shape != found.pixels.shape:
            different[name] = f"{expected.shape} and {found.pixels.shape}"
        elif np.ptp(expected) and np.ptp(found.pixels):
            alike = np.corrcoef(ranks(found.pixels), ranks(expected))[0, 1]
            if alike < 0.98:
                different[name] = f"rank correlation {alike:.3f}"
        elif np.ptp(expected) or np.ptp(found.pixels):
            different[name] = "one of them is blank"
    assert set(different) == set(EXPLAINED), different
    assert compared >= 40


def test_a_big_endian_file_is_the_picture_of_its_little_endian_twin():
    twins = (Path(DATA_ROOT) / "test_files" / f"{name}_1frame.dcm" for name in ("rtdose", "rtdose_expb"))
    little, big = (read_radiograph(path, accept=frozenset(REASONS)).pixels for path in twins)
    np.testing.assert_array_equal(little, big)
