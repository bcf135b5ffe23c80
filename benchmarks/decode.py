"""Reading and squaring radiographs, against torchxrayvision's own reading and resizing, and against bare PNG decoding.

    OMP_NUM_THREADS=1 python benchmarks/decode.py [--root ../shared/data/nih-fullres]

All readers take turns on the same PNG files in a single process and thread; CPU time is measured, so that a busy
machine does not matter. `trcgl prepare` is all work of a worker: read, square, hash, write. Exits with 1 unless
`prepare` has at least 3 times the rate of torchxrayvision and 0.7 times that of the fastest decoder.
"""

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import imageio.v3
import numpy as np
import skimage.io
import torch
import torchxrayvision
from PIL import Image
from torchvision.io import ImageReadMode, decode_png

from trcgl.imaging.decode import Decoder
from trcgl.imaging.radiograph import read_radiograph

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
ROOT = Path(os.environ.get("TRCGL_REAL_DATA", BESIDE)) / "nih-fullres"
SIZE = 224
OVER_PEER, OVER_BARE = 3.0, 0.7

crop, resize = torchxrayvision.datasets.XRayCenterCrop(), torchxrayvision.datasets.XRayResizer(SIZE)


def with_torchxrayvision(path: Path) -> np.ndarray:
    """As in the package's README: read, normalize, first channel, crop, resize."""
    pixels = torchxrayvision.datasets.normalize(skimage.io.imread(path), 255)
    return resize(crop((pixels if pixels.ndim == 2 else pixels[:, :, 0])[None]))


def with_torchvision(path: Path) -> torch.Tensor:
    """Decode only, from memory."""
    return decode_png(torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8), ImageReadMode.UNCHANGED)


BARE: dict[str, Callable[[Path], object]] = {
    "Pillow": lambda path: np.asarray(Image.open(io.BytesIO(path.read_bytes()))),
    "torchvision.io": with_torchvision,
    "imageio": imageio.v3.imread,
    "scikit-image": skimage.io.imread,
}


def prepared(paths: list[Path]) -> Callable[[], None]:
    """Everything that a worker of `trcgl prepare` does with the files."""

    def once() -> None:
        with tempfile.TemporaryDirectory() as folder:
            names = tuple(path.name for path in paths)
            decoder = Decoder(Path(folder), paths[0].parent, names, None, SIZE, "letterbox")
            for part in range(decoder.parts):
                decoder.make(part)

    return once


def main() -> int:
    """Time all readers and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of PNG radiographs")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    paths = sorted(options.root.glob("*.png"))
    if not paths:
        print(f"no PNG files in {options.root}; set TRCGL_REAL_DATA or give --root")
        return 0
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the peers' deprecations

    def each(read: Callable[[Path], object]) -> Callable[[], None]:
        def read_all() -> None:
            for path in paths:
                read(path)

        return read_all

    turns: dict[str, Callable[[], None]] = {
        "trcgl, read and square": each(lambda path: read_radiograph(path, size=SIZE)),
        "trcgl prepare": prepared(paths),
        "torchxrayvision, read and resize": each(with_torchxrayvision),
        **{f"{name}, decode alone": each(read) for name, read in BARE.items()},
    }
    times: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(options.rounds + 1):
        for name, work in list(turns.items())[:: 1 if turn % 2 else -1]:
            start = time.process_time()
            work()
            if turn:
                times[name].append((time.process_time() - start) / len(paths))
    median = {name: statistics.median(taken) for name, taken in times.items()}
    print(f"{len(paths)} PNG files of {options.root.name} to {SIZE} px, one thread, CPU time, {options.rounds} rounds")
    for name, seconds in median.items():
        print(f"{name:34} {1e3 * seconds:8.2f} ms a file {1 / seconds:8.1f} files/s a core")
    ours = median["trcgl prepare"]
    fastest = min((name for name in median if name.endswith("alone")), key=median.__getitem__)
    over_peer, over_bare = median["torchxrayvision, read and resize"] / ours, median[fastest] / ours
    print(f"trcgl prepare / torchxrayvision    {over_peer:8.2f}   (at least {OVER_PEER})")
    print(f"trcgl prepare / {fastest}  {over_bare:8.2f}   (at least {OVER_BARE})")
    return int(over_peer < OVER_PEER or over_bare < OVER_BARE)


if __name__ == "__main__":
    sys.exit(main())
