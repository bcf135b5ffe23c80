"""Time all distances of an audit between 2,000 synthetic and 10,000 real feature vectors, beside peers' functions.

    OMP_NUM_THREADS=1 python benchmarks/audit.py

Per dimension (512 and 2,048) and side, one process computes everything and reports its processor seconds, which a busy
machine does not change (with one thread; waiting threads spin), and the growth of its peak memory. The peers compute
what they can on the same vectors: torchmetrics the Fréchet distance, torch-fidelity precision and recall and the KID.
The kernel distances take as many real vectors as synthetic ones. Equal figures must agree to 1e-4. Exits with 1 if they
do not, or if trcgl takes 60 s or more for both dimensions together.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from trcgl.audit.kernels import (
    Kernel,
    frechet,
    gaussian,
    group_sums,
    median_bandwidth,
    neighborhood,
    polynomial,
    squared_distance,
    strips,
)
from trcgl.audit.permutation import TwoGroups

SYNTHETIC, REAL, DIMENSIONS = 2_000, 10_000, (512, 2_048)
NEIGHBORS, LIMIT_S, AGREE = 5, 60.0, 1e-4


def write_vectors(dimension: int, folder: str) -> None:
    """Synthetic and real feature vectors: correlated, and a little apart."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(dimension, dimension)) * np.geomspace(1, 0.05, dimension) / dimension**0.5
    synthetic, real = (rng.normal(size=(count, dimension)) @ mix.T * 4 for count in (SYNTHETIC, REAL))
    np.save(f"{folder}/synthetic.npy", (synthetic + 0.3).astype(np.float32))
    np.save(f"{folder}/real.npy", real.astype(np.float32))


def nearest(synthetic: np.ndarray, real: np.ndarray) -> float:
    """Mean distance of a synthetic vector from its nearest real one."""
    parts = [values.min(1).values for _, values in strips(synthetic, real, squared_distance)]
    return float(torch.cat(parts).sqrt().mean())


def distance(synthetic: np.ndarray, real: np.ndarray, kernel: Kernel) -> float:
    """The distance of the fidelity check from as many real vectors, with one image per patient."""
    rows = np.concatenate([synthetic, real[: len(synthetic)]])
    sums = group_sums(rows, np.arange(len(rows)), kernel)
    return TwoGroups(sums, np.arange(len(rows)) < len(synthetic)).value()


def ours(dimension: int) -> dict[str, Callable[[np.ndarray, np.ndarray], object]]:
    return {
        "KID": lambda synthetic, real: distance(synthetic, real, polynomial),
        "RBF-MMD": lambda synthetic, real: distance(synthetic, real, gaussian(median_bandwidth(real))),
        "FD": lambda synthetic, real: frechet(synthetic, real).value,
        "precision, recall, density, coverage": lambda synthetic, real: tuple(
            vars(neighborhood(real, synthetic, NEIGHBORS)).values()
        ),
        "nearest neighbors": nearest,
    }


def peers(dimension: int) -> dict[str, Callable[[np.ndarray, np.ndarray], object]]:
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import calculate_precision_recall_part
    from torchmetrics.image.fid import _compute_fid

    def kid(synthetic: np.ndarray, real: np.ndarray) -> float:
        options = {"kid_subsets": 1, "kid_subset_size": SYNTHETIC, "verbose": False}
        pair = torch.from_numpy(synthetic), torch.from_numpy(real[:SYNTHETIC])
        return float(kid_features_to_metric(*pair, **options)["kernel_inception_distance_mean"])

    def fid(synthetic: np.ndarray, real: np.ndarray) -> float:
        x, y = (torch.from_numpy(rows).double() for rows in (synthetic, real))
        return float(_compute_fid(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T)))

    def shares(synthetic: np.ndarray, real: np.ndarray) -> tuple[float, float]:
        return calculate_precision_recall_part(torch.from_numpy(synthetic), torch.from_numpy(real), NEIGHBORS)

    return {
        "KID": kid,
        **({"FD": fid} if dimension <= SYNTHETIC else {}),
        "precision, recall, density, coverage": shares,
    }


def measure(side: str, dimension: int, folder: str) -> tuple[dict[str, tuple[object, float]], float]:
    """Value and processor seconds of every figure, and the growth of the peak memory in MiB."""
    synthetic, real = (np.load(f"{folder}/{name}.npy") for name in ("synthetic", "real"))
    figures = {"ours": ours, "peers": peers}[side](dimension)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {}
    for name, figure in figures.items():
        start = time.process_time()
        value = figure(synthetic, real)
        found[name] = value, time.process_time() - start
    return found, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def alone(work: Callable[..., Any], *arguments: object) -> Any:
    """Run in a new process, whose peak memory does not include earlier work."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def main() -> int:
    """Measure both sides in separate processes and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-peers", action="store_true")
    options = parser.parse_args()
    total, agree = 0.0, True
    for dimension in DIMENSIONS:
        results = {}
        with tempfile.TemporaryDirectory() as folder:
            alone(write_vectors, dimension, folder)
            for side in ("ours",) if options.without_peers else ("ours", "peers"):
                results[side] = alone(measure, side, dimension, folder)
        found, memory = results["ours"]
        theirs, their_memory = results.get("peers", ({}, 0.0))
        threads = os.environ.get("OMP_NUM_THREADS")
        print(f"{SYNTHETIC:,} synthetic, {REAL:,} real, {dimension} features, OMP_NUM_THREADS {threads}")
        for name, (value, seconds) in found.items():
            line = f"  {name:37} trcgl {seconds:6.1f} s  {shown(value)}"
            if name in theirs:
                peer, peer_seconds = theirs[name]
                line += f"   peers {peer_seconds:6.1f} s  {shown(peer)}"
                agree &= bool(np.allclose(np.ravel(value)[: np.size(peer)], peer, rtol=AGREE, atol=AGREE))
            print(line, flush=True)
        seconds = sum(spent for _, spent in found.values())
        total += seconds
        print(f"  all                                   trcgl {seconds:6.1f} s, {memory:.0f} MiB more", end="")
        print(
            f"   peers {sum(spent for _, spent in theirs.values()):6.1f} s, {their_memory:.0f} MiB more"
            if theirs
            else ""
        )
    print(f"both dimensions: {total:.1f} s (less than {LIMIT_S:.0f}); figures {'agree' if agree else 'DIFFER'}")
    return int(total >= LIMIT_S or not agree)


def shown(value: object) -> str:
    return (
        "refused"
        if value is None
        else ", ".join(f"{number:.5g}" for number in np.ravel(np.asarray(value, dtype=float)))
    )


if __name__ == "__main__":
    sys.exit(main())
