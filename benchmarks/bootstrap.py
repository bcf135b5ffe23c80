"""The patient bootstrap of AP and AUROC against a loop over scikit-learn's functions.

    OMP_NUM_THREADS=1 python benchmarks/bootstrap.py

16,000 images of 8,000 patients, 30 findings with the prevalences of PadChest-30. Ours computes 2,000 replicates on two
threads; the loop resamples the same patients, computes a few replicates, and its time is scaled to 2,000. The
replicates of both must agree to 1e-12. Exits with 1 if the ratio is below 100.
"""

import argparse
import sys
import time

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from trcgl.metrics.auroc import AUROC
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.metrics.bootstrap import patient_bootstrap, resample_patients

IMAGES, PATIENTS, FINDINGS = 16_000, 8_000, 30
LIMIT = 100
PREVALENCE = np.geomspace(0.41, 0.001, FINDINGS)


def data(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores (AUROC about .86) and the patient of every image."""
    rng = np.random.default_rng(seed)
    owner = np.append(np.arange(PATIENTS), rng.integers(0, PATIENTS, IMAGES - PATIENTS))
    truth = (rng.random((IMAGES, FINDINGS)) < PREVALENCE).astype(np.float64)
    return truth, rng.normal(1.5 * truth), owner


def loop(truth: np.ndarray, score: np.ndarray, owner: np.ndarray, replicates: int) -> np.ndarray:
    """The plain way: resample the rows and call scikit-learn for every finding."""
    images = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])
    values = np.full((2, replicates, FINDINGS), np.nan)
    for replicate in range(replicates):
        patients = np.repeat(np.arange(PATIENTS), resample_patients(PATIENTS, 0, replicate))
        rows = np.concatenate([images[patient] for patient in patients])
        for finding in range(FINDINGS):
            present, ranked = truth[rows, finding], score[rows, finding]
            values[0, replicate, finding] = average_precision_score(present, ranked)
            values[1, replicate, finding] = roc_auc_score(present, ranked)
    return values


def main() -> int:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--loop-replicates", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    truth, score, owner = data(0)
    start = time.perf_counter()
    how = {"replicates": options.replicates, "workers": options.workers}
    ours = patient_bootstrap(truth, score, owner, metrics=(AVERAGE_PRECISION, AUROC), **how)
    ours_s = time.perf_counter() - start
    start = time.perf_counter()
    peer = loop(truth, score, owner, options.loop_replicates)
    peer_s = (time.perf_counter() - start) / options.loop_replicates * options.replicates
    difference = np.abs(np.stack([ours["AP"], ours["AUC"]])[:, : options.loop_replicates] - peer).max()
    print(f"{options.replicates:,} patient-bootstrap replicates, {FINDINGS} findings, AP and AUROC, {IMAGES:,} images")
    print(f"trcgl, {options.workers} threads                  {ours_s:9.2f} s")
    print(f"scikit-learn loop, {options.loop_replicates} replicates scaled {peer_s:9.1f} s")
    print(f"largest difference                {difference:9.1e}")
    print(f"ratio                             {peer_s / ours_s:9.0f}   (at least {LIMIT})")
    return int(peer_s / ours_s < LIMIT or difference > 1e-12)


if __name__ == "__main__":
    sys.exit(main())
