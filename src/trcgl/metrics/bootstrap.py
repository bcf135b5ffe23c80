"""Patient bootstrap: every metric of every finding on resamples of the patients."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, Int

from trcgl.core.randomness import generator
from trcgl.metrics.intervals import Samples
from trcgl.metrics.metric import Metric
from trcgl.metrics.resampling import FindingRows, Resampled
from trcgl.metrics.rows import Rows, Table, known_rows

CHUNK = 32
"""Replicates computed together: their counts stay in the processor's cache."""


def patient_bootstrap(
    truth: Table,
    score: Table,
    patient: Sequence[str] | np.ndarray,
    weight: Rows | Table | None = None,
    *,
    metrics: Sequence[Metric],
    thresholds: Sequence[float] | None = None,
    replicates: int = 2000,
    seed: int = 0,
    workers: int | None = None,
) -> dict[str, Samples]:
    """Recompute metrics of every finding on resamples of the patients.

    Replicate b resamples the same patients for every finding, and for every run that is evaluated on the same images.

    `weight` applies to all findings or to each one separately; `workers` threads run at once (None: one per core).

    Returns:
        Name of the metric to its values, NaN where a replicate leaves it undefined.
    """
    patients, owner = np.unique(np.asarray(patient), return_inverse=True)
    findings = []
    for column in range(truth.shape[1]):
        known = ~np.isnan(truth[:, column])
        own = weight[:, column] if weight is not None and weight.ndim == 2 else weight
        rows = known_rows(truth[:, column], score[:, column], own)
        threshold = None if thresholds is None else thresholds[column]
        findings.append(FindingRows(*rows, owner[known], len(patients), threshold))

    def work(chunk: Sequence[int]) -> Float[np.ndarray, "metrics replicates findings"]:
        counts = np.empty((len(patients), len(chunk)), np.float32)
        for column, replicate in enumerate(chunk):
            counts[:, column] = resample_patients(len(patients), seed, replicate)
        values = np.empty((len(metrics), len(chunk), len(findings)))
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0: the replicate leaves the metric undefined
            for column, rows in enumerate(findings):
                resampled = Resampled(rows, counts)
                for place, metric in enumerate(metrics):
                    values[place, :, column] = metric.replicates(resampled)
        return values

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        chunks = [range(first, min(first + CHUNK, replicates)) for first in range(0, replicates, CHUNK)]
        values = np.concatenate(list(pool.map(work, chunks)), axis=1)
    return {metric.name: values[place] for place, metric in enumerate(metrics)}


def resample_patients(patients: int, seed: int, replicate: int) -> Int[np.ndarray, " patients"]:
    """How often each patient occurs in one replicate."""
    resampled = generator(seed, "bootstrap", replicate).integers(0, patients, patients)
    return np.bincount(resampled, minlength=patients)
