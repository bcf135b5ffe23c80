"""`prepare` and `predict` on one machine: with their own processes, and on a Dask cluster of as many local processes.

    OMP_NUM_THREADS=1 python benchmarks/cluster.py [--files 400] [--rounds 3]

Half of the files are PNG, half are uncompressed 12-bit DICOM, 512 x 512 pixels; the model is an untrained TRCGL-Net
over ConvNeXtV2-Atto at 224 px. Both engines take turns. Wall time includes the start of the processes and, for Dask,
of its scheduler; processor time is that of all processes. Exits with 1 if a byte of the results differs.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from distributed import LocalCluster
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from trcgl.core import machine
from trcgl.core.recipe import ModelRecipe, Recipe
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.sources.table import Options

# PyTorch is imported where it is used, as by the commands: started processes import this file.

SIDE, SIZE, FINDINGS = 512, 224, 14


def write_model(folder: Path) -> Path:
    """An untrained model."""
    import torch

    from trcgl.model.folder import save_model
    from trcgl.model.trcgl_net import TrcglNet

    space = LabelSpace("benchmark", tuple(f"Finding {number}" for number in range(FINDINGS)), {}, "name")
    recipe = Recipe(name="benchmark", model=ModelRecipe(backbone="convnextv2_atto", image_size=SIZE))
    save_model(
        folder,
        TrcglNet(recipe.model, FINDINGS, torch.eye(FINDINGS), load_weights=False).eval(),
        recipe=recipe,
        space=space,
        preprocessing={"image_size": SIZE, "fit": "letterbox"},
        adjacency=torch.eye(FINDINGS),
        training_patient_digest="0",
        license="none",
    )
    return folder


def write_archive(folder: Path, files: int) -> Path:
    """Smooth random pictures with noise, and their label table."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["image,patient,A"]
    for number in range(files):
        coarse = Image.fromarray(rng.integers(0, 4096, (9, 9)).astype(np.float32)).resize((SIDE, SIDE))
        pixels = np.clip(np.asarray(coarse) + rng.normal(0, 30, (SIDE, SIDE)), 0, 4095).astype(np.uint16)
        name = f"{number:05d}.{'dcm' if number % 2 else 'png'}"
        if number % 2:
            write_dicom(folder / name, pixels, number)
        else:
            Image.fromarray((pixels >> 4).astype(np.uint8)).save(folder / name)
        lines.append(f"{name},p{number},{number % 3 // 2}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def write_dicom(path: Path, pixels: np.ndarray, number: int) -> None:
    """An uncompressed 12-bit radiograph."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, f"1.2.3.{number}"
    dataset.Modality, dataset.PhotometricInterpretation = "DX", "MONOCHROME2"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *pixels.shape, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset.save_as(path, enforce_file_format=True)


@contextmanager
def local_cluster(workers: int) -> Iterator[str]:
    """The address of a cluster of processes with one thread each."""
    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:
        yield cluster.scheduler_address


def processor_seconds() -> float:
    """Processor time of this process and of all that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), processor_seconds()
    work()
    return time.perf_counter() - wall, processor_seconds() - processor


def main() -> int:
    """Time both engines and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    workers = machine.cpus()
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive, model = write_archive(folder / "archive", options.files), write_model(folder / "model")

        def prepared(out: Path, cluster: str | None, count: int) -> Path:
            prepare(
                "table", archive, out, PrepareOptions(workers=count, cluster=cluster), Options(finding_columns=("A",))
            )
            return out / "images.npy"

        def predicted(out: Path, cluster: str | None, count: int) -> Path:
            from trcgl.predict.options import PredictOptions
            from trcgl.predict.predict import predict_to

            predict_to(out, model, sorted(archive.glob("*.[pd]*")), PredictOptions(workers=count, cluster=cluster))
            return out

        for verb, run in (("prepare", prepared), ("predict", predicted)):
            results: set[bytes] = set()
            for turn in range(options.rounds):
                out = folder / f"{verb}-{turn}.csv"

                def own(out: Path = out, run: Callable[..., Path] = run, results: set[bytes] = results) -> None:
                    results.add(run(out.with_suffix(".own.csv"), None, workers).read_bytes())

                def dask(out: Path = out, run: Callable[..., Path] = run, results: set[bytes] = results) -> None:
                    with local_cluster(workers) as address:
                        results.add(run(out.with_suffix(".dask.csv"), address, 0).read_bytes())

                for engine, work in (("own", own), ("dask", dask))[:: 1 if turn % 2 else -1]:
                    taken.setdefault((verb, engine), []).append(timed(work))
            if len(results) > 1:
                print(f"{verb}: the results differ")
                return 1
    print(f"{options.files} files of {SIDE} px, {workers} processes, {options.rounds} rounds, median")
    for verb in ("prepare", "predict"):
        median = {}
        for engine in ("own", "dask"):
            wall, processor = map(statistics.median, zip(*taken[verb, engine], strict=True))
            median[engine] = wall, processor
            rate = options.files / wall
            print(f"{verb:8} {engine:5} {wall:6.1f} s {rate:7.1f} files/s {processor:6.1f} processor seconds")
        walls, processors = zip(median["own"], median["dask"], strict=True)
        print(
            f"{verb:8} Dask / own: {walls[1] / walls[0]:.2f} wall, {processors[1] / processors[0]:.2f} processor time"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
