"""Random batches from the memory-mapped images.npy, against decoding the PNG files it was made from.

    OMP_NUM_THREADS=1 python benchmarks/store.py [--root ../shared/data/nih-fullres]

The files are decoded once and written as `trcgl prepare` writes them, repeated until the store has 4,096 images (196
MiB), so that rows are not in the processor's cache. Both sides then read the same random batches in turns, in a single
thread; CPU time is measured, and both are in the page cache. Exits with 1 below 50 times the rate.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from trcgl.imaging.radiograph import read_radiograph

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
ROOT = Path(os.environ.get("TRCGL_REAL_DATA", BESIDE)) / "nih-fullres"
SIZE, IMAGES, BATCH = 224, 4096, 32
LIMIT = 50.0


def each(read: Callable[[np.ndarray], object], batches: np.ndarray) -> None:
    for batch in batches:
        read(batch)


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def read_files(paths: list[Path]) -> np.ndarray:
    """The pixels of PNG files."""
    return np.stack([read_radiograph(path, size=SIZE).pixels for path in paths])


def main() -> int:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of PNG radiographs")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    paths = sorted(options.root.rglob("*.png"))[:IMAGES]
    if not paths:
        print(f"no PNG files in {options.root}; set TRCGL_REAL_DATA or give --root")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        images = np.stack([read_radiograph(path, size=SIZE).pixels for path in paths])
        np.save(Path(folder) / "images.npy", images[np.arange(IMAGES) % len(paths)])
        store = np.load(Path(folder) / "images.npy", mmap_mode="r")
        rng = np.random.default_rng(0)
        read, decoded = [], []
        for turn in range(options.rounds + 1):
            batches = rng.permutation(IMAGES).reshape(-1, BATCH)
            few = batches[0] % len(paths)
            stored = timed(partial(each, store.__getitem__, batches)) / IMAGES
            other = timed(partial(read_files, [paths[row] for row in few]))
            if turn:
                read.append(stored)
                decoded.append(other / BATCH)
        same = (store[batches[0]] == images[few]).all()
    ours, peer = statistics.median(read), statistics.median(decoded)
    print(f"random batches of {BATCH} at {SIZE} px, {len(paths)} PNG files of {options.root.name}, CPU time")
    print(f"store, memory-mapped    {1e6 * ours:10.1f} µs an image")
    print(f"decoding the PNG files  {1e6 * peer:10.1f} µs an image")
    print(f"ratio                   {peer / ours:10.1f}   (at least {LIMIT:.0f})")
    return int(not same or peer / ours < LIMIT)


if __name__ == "__main__":
    sys.exit(main())
