"""Mutated image files, read in the decoding process; resumable.

    nice -n 19 python -m tests.imaging.fuzz --out FOLDER [--count 10000]

The seeds of a format are done in batches. A finished batch is a line of FOLDER/results.jsonl; the same command again
does the missing ones and prints the sums. A mutant of at most 64 KiB follows from its format and seed alone.
"""

import argparse
import io
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
from PIL import Image
from pydicom import uid

from tests.imaging.dicom_files import dicom, jpeg, packed, with_frame
from trcgl.core.errors import UnreadableImage
from trcgl.doctor.sample_files import sample
from trcgl.imaging.file_process import FileProcess
from trcgl.imaging.isolated import Lost
from trcgl.imaging.limits import Limits

BATCH = 250
LIMITS = Limits(bytes=64 * 1024, pixels=1_000_000)
SECONDS = 20.0
_EXTREMES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\1\0\0\0")
_SMOOTH = (np.add.outer(np.arange(48) ** 2, np.arange(40) * 30) % 4096).astype(np.uint16)
_EIGHT = (_SMOOTH >> 4).astype(np.uint8)


def _picture(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _by_gdcm(code: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return packed(dicom(_SMOOTH), code, Path(folder))


FORMATS: dict[str, Callable[[], bytes]] = {
    "png-8": lambda: _picture(_EIGHT, "PNG"),
    "png-16": lambda: _picture(_SMOOTH * 16, "PNG"),
    "jpeg": lambda: jpeg(_EIGHT),
    "explicit": lambda: dicom(_SMOOTH, WindowCenter=2000, WindowWidth=3000, RescaleSlope=-1, RescaleIntercept=4095),
    "implicit": lambda: dicom(_SMOOTH, syntax=uid.ImplicitVRLittleEndian, PixelPaddingValue=0),
    "deflated": lambda: dicom(_SMOOTH, syntax=uid.DeflatedExplicitVRLittleEndian),
    "rle": lambda: dicom(_SMOOTH, syntax=uid.RLELossless),
    "jpeg-baseline": lambda: with_frame(dicom(_EIGHT, 8), jpeg(_EIGHT), uid.JPEGBaseline8Bit),
    "jpeg-lossless": lambda: _by_gdcm(gdcm.TransferSyntax.JPEGLosslessProcess14_1),
    "jpeg-ls": lambda: _by_gdcm(gdcm.TransferSyntax.JPEGLSLossless),
    "jpeg-2000": lambda: dicom(_SMOOTH, syntax=uid.JPEG2000Lossless),
    "htj2k": lambda: sample("HTJ2KLossless"),
}
"""Name of a format to a function that makes a sound file of it."""


def mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """The file after one to eight changes: bytes, lengths, missing, repeated or inserted parts."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        place = int(rng.integers(0, max(1, len(data))))
        length = int(rng.choice([1, 2, 4, 16, 200]))
        kind = rng.integers(0, 7)
        if kind == 0:
            data[place : place + 1] = rng.bytes(1)
        elif kind == 1 and data:
            data[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:  # extreme numbers, which lengths and sizes do not expect
            data[place : place + 4] = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\1\0\0\0"][
                rng.integers(4)
            ]
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            data[place:place] = data[place : place + length]
        elif kind == 5:
            data[place : place + length] = rng.bytes(length)
        elif rng.random() < 0.2:
            del data[place:]
    return bytes(data[: LIMITS.bytes])


def run_batch(process: FileProcess, name: str, batch: int) -> dict:
    """The outcomes of one batch of seeds: read, refused, lost (a crash or a hang), and what must not happen."""
    content, outcomes, peak, unexpected = FORMATS[name](), Counter(), 0, []
    start = time.monotonic()
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        rng = np.random.default_rng([seed, *name.encode()])
        try:
            process.read_content(mutant(content, rng), "it", [(32, "letterbox")], limits=LIMITS)
            outcomes["read"] += 1
        except Lost:
            outcomes["lost"] += 1
            unexpected.append([seed, "lost"])
        except UnreadableImage:
            outcomes["refused"] += 1
        except Exception as error:
            unexpected.append([seed, repr(error)])
        peak = max(peak, _peak_memory(process.pid) if seed % 50 == 49 else 0)
    seconds = time.monotonic() - start
    return {
        "format": name,
        "batch": batch,
        "outcomes": outcomes,
        "unexpected": unexpected,
        "peak_mb": peak,
        "seconds": seconds,
    }


def _peak_memory(pid: int | None) -> int:
    """Largest resident memory in MB, since their start, of a process or one of its children (gdcm's)."""
    peaks = [0]
    for number in [] if pid is None else [pid, *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]:
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
        peaks += [int(line.split()[1]) // 1000 for line in lines if line.startswith("VmHWM")]
    return max(peaks)


def run(out: Path, count: int) -> list[dict]:
    """All batches of every format with at least `count` files each; batches of an earlier call are not done again."""
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    done = {(line["format"], line["batch"]): line for line in map(json.loads, lines)}
    process = FileProcess(SECONDS, ready=True)
    try:
        for batch in range(-(-count // BATCH)):
            for name in FORMATS:
                if (name, batch) not in done:
                    done[name, batch] = run_batch(process, name, batch)
                    with open(results, "a") as stream:
                        stream.write(json.dumps(done[name, batch]) + "\n")
    finally:
        process.close()
    return list(done.values())


def summary(results: list[dict]) -> str:
    """A line per format."""
    lines = []
    for name in FORMATS:
        mine = [result for result in results if result["format"] == name]
        total = Counter()
        for result in mine:
            total.update(result["outcomes"])
        files, seconds = len(mine) * BATCH, sum(result["seconds"] for result in mine)
        peak = max((result["peak_mb"] for result in mine), default=0)
        wrong = sum(len(result["unexpected"]) for result in mine)
        lines.append(
            f"{name:14} {files:7} files, {total['read']:6} read, {total['refused']:7} refused, {total['lost']:3} lost, "
            f"{wrong} unexpected, {files / max(seconds, 1e-9):6.0f} files/s, peak {peak} MB"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=10_000, help="files per format")
    options = parser.parse_args()
    print(summary(run(options.out, options.count)))
