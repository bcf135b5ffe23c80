"""Reading uncompressed DICOM radiographs, against the usual loop of pydicom, NumPy and Pillow.

    OMP_NUM_THREADS=1 python benchmarks/read_dicom.py

The files have 2048 x 2500 pixels of 12 bits, a rescale and a window; they are rendered into a temporary folder. The
peer reads a file, applies modality LUT and window, scales to 8 bits and resizes to the same side; it makes no digest
and no percentiles. `trcgl prepare` is all work of a worker: read, hash, percentiles, square, write. Both take turns in
one process; processor time is measured, so that a busy machine matters little. Then a fresh worker prepares all files
while its unique memory (USS) is sampled. Exits with 1 unless `prepare` needs at most 0.8 times the processor time of
the peer and at most 150 MB.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from trcgl.imaging.decode import Decoder

ROWS, COLUMNS, SIZE = 2500, 2048, 224
TIMES_PEER, MEGABYTES = 0.8, 150.0


def render(folder: Path, count: int) -> list[Path]:
    """Write files of smooth random pixels with noise."""
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = Image.fromarray(random.uniform(500, 3500, (12, 10)).astype(np.float32))
        smooth = np.asarray(coarse.resize((COLUMNS, ROWS), Image.Resampling.BICUBIC))
        pixels = np.clip(smooth + random.normal(0, 40, smooth.shape), 0, 4095).astype(np.uint16)
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
        dataset.file_meta.MediaStorageSOPInstanceUID = uid.UID(f"1.2.{number + 1}")
        dataset.SOPClassUID, dataset.SOPInstanceUID = uid.DigitalXRayImageStorageForPresentation, f"1.2.{number + 1}"
        dataset.Modality, dataset.Rows, dataset.Columns = "DX", ROWS, COLUMNS
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.WindowCenter, dataset.WindowWidth = 2000, 3600
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OW"
        paths.append(folder / f"{number}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def by_peer(path: Path) -> np.ndarray:
    """As in pydicom's documentation."""
    dataset = pydicom.dcmread(path)
    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    low, high = values.min(), values.max()
    pixels = ((values - low) * (255 / (high - low))).astype(np.uint8)
    height, width = (round(length * SIZE / max(pixels.shape)) for length in pixels.shape)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def prepared(paths: list[Path]) -> Callable[[], None]:
    """Everything that a worker of `trcgl prepare` does with the files."""

    def once() -> None:
        with tempfile.TemporaryDirectory() as folder:
            names = tuple(path.name for path in paths)
            decoder = Decoder(Path(folder), paths[0].parent, names, None, SIZE, "letterbox")
            for part in range(decoder.parts):
                decoder.make(part)

    return once


def unique_memory() -> float:
    """USS of this process in MB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


def worker(folder: Path) -> None:
    """Prepare all files and print the largest USS in MB."""
    largest, done = [unique_memory()], threading.Event()

    def sample() -> None:
        while not done.wait(0.002):
            largest[0] = max(largest[0], unique_memory())

    thread = threading.Thread(target=sample)
    thread.start()
    prepared(sorted(folder.glob("*.dcm")))()
    done.set()
    thread.join()
    print(json.dumps(largest[0]))


def main() -> int:
    """Time both and print the ratio and the memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        paths = render(Path(folder), options.files)
        turns: dict[str, Callable[[], object]] = {
            "pydicom, NumPy, Pillow": lambda: [by_peer(path) for path in paths],
            "trcgl prepare": prepared(paths),
        }
        times: dict[str, list[float]] = {name: [] for name in turns}
        for turn in range(options.rounds + 1):
            for name, work in list(turns.items())[:: 1 if turn % 2 else -1]:
                start = time.process_time()
                work()
                if turn:
                    times[name].append((time.process_time() - start) / len(paths))
        command = [sys.executable, __file__, "--worker", folder]
        memory = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    median = {name: statistics.median(taken) for name, taken in times.items()}
    print(
        f"{options.files} files of {COLUMNS} x {ROWS}, 12 bits, to {SIZE} px, processor time, {options.rounds} rounds"
    )
    for name, seconds in median.items():
        print(f"{name:28} {1e3 * seconds:8.1f} ms a file {1 / seconds:8.1f} files/s a core")
    ratio = median["trcgl prepare"] / median["pydicom, NumPy, Pillow"]
    print(f"{'ratio':28} {ratio:8.2f}   (at most {TIMES_PEER})")
    print(f"{'unique memory of a worker':28} {memory:8.0f} MB (at most {MEGABYTES:.0f})")
    return int(ratio > TIMES_PEER or memory > MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
