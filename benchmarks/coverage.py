"""How often the 95 % interval covers the true value, on simulated data sets with at least twenty positive patients.

    OMP_NUM_THREADS=1 python benchmarks/coverage.py

Every patient has one image and some have more; a diseased patient shows the finding on four images out of five; the
scores of the images of one patient correlate (.5). The true value is that of the population: AUROC in closed form, AP
at the prevalence of the population from three million patients. `fixed` data sets have exactly the given number of
positive patients, as a split made by rule may have; `free` data sets have it on average, and are simulated again where
they have fewer than twenty. The bootstrap treats the number of positive patients as random, so its intervals are
conservative where that number is fixed. The second table is of means over findings of the same 400 patients. Exits with
1 if any coverage is outside 92-98 %; means over a finding with fewer than twenty positive patients are only printed.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
from scipy.stats import norm

from trcgl.metrics.auroc import AUROC
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.metrics.bootstrap import patient_bootstrap
from trcgl.metrics.intervals import FEW, effective_patients, interval
from trcgl.metrics.summary import mean_over_findings

METRICS = (AVERAGE_PRECISION, AUROC)
SHOWS = 0.8
"""Share of a diseased patient's images on which the finding shows."""
CORRELATION = 0.5
MORE_IMAGES = 0.7
"""Mean number of images beyond a patient's first (Poisson)."""
PATIENTS_OF_MEANS = 400
MEANS = ((20, 20), (20, 20, 20, 60), (10, 30), (5, 30), (3, 30), (2, 20), (3, 20, 20, 20))
"""Numbers of positive patients of the findings in each mean."""


@dataclass(frozen=True)
class Setting:
    """A population and a size of data set."""

    positive_patients: int
    prevalence: float
    auroc: float
    fixed: bool

    @property
    def patients(self) -> int:
        """Number of patients in a data set; some diseased patients have no positive image."""
        visible = SHOWS + (1 - SHOWS) * (1 - np.exp(-MORE_IMAGES * SHOWS))
        return round(self.positive_patients / (self.prevalence * (1 if self.fixed else visible)))


def simulate(
    rng: np.random.Generator, setting: Setting, patients: int, fixed: bool, owner: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """Labels, scores and owners of the images of a number of patients; `owner` fixes the images of each patient."""
    diseased = rng.random(patients) < setting.prevalence
    if fixed:
        diseased = np.arange(patients) < setting.positive_patients
    if owner is None:
        owner = np.repeat(np.arange(patients), 1 + rng.poisson(MORE_IMAGES, patients))
    else:
        diseased = rng.permutation(diseased)
    positive = diseased[owner] & (rng.random(len(owner)) < SHOWS)
    if fixed:
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        positive[first[diseased]] = True
    shared, own = rng.normal(size=patients)[owner], rng.normal(size=len(owner))
    noise = np.sqrt(CORRELATION) * shared + np.sqrt(1 - CORRELATION) * own
    return positive.astype(np.float64), np.sqrt(2) * norm.ppf(setting.auroc) * positive + noise, owner


def population(setting: Setting, patients: int = 3_000_000) -> dict[str, float]:
    """AP and AUROC of the population from which the patients of the data sets come."""
    whole = replace(setting, positive_patients=round(setting.prevalence * patients))
    truth, score, _ = simulate(np.random.default_rng(7), whole, patients, setting.fixed)
    return {"AP": AVERAGE_PRECISION(truth, score).value or 0.0, "AUC": setting.auroc}


def covered(seed: int, setting: Setting, target: dict[str, float], replicates: int) -> dict[str, tuple[bool, float]]:
    """Whether the intervals of one data set cover the true value, and their lengths."""
    rng = np.random.default_rng(seed)
    positive_patients = 0
    while positive_patients < FEW:
        truth, score, owner = simulate(rng, setting, setting.patients, setting.fixed)
        positive_patients = len(np.unique(owner[truth == 1]))
    arrays = truth[:, None], score[:, None], owner
    samples = patient_bootstrap(*arrays, metrics=METRICS, replicates=replicates, seed=seed, workers=1)
    freedom = effective_patients(truth, owner) - 1
    result = {}
    for metric in METRICS:
        value = metric(truth, score).value
        ends = interval(0.0 if value is None else value, samples[metric.name][:, 0], freedom).ends
        low, high = ends or (0.0, 1.0)
        result[metric.name] = (low <= target[metric.name] <= high, high - low)
    return result


def mean_covered(
    seed: int, sizes: tuple[int, ...], target: dict[str, float], replicates: int
) -> dict[str, tuple[bool, float]]:
    """The same for the mean over findings of one data set."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(PATIENTS_OF_MEANS), 1 + rng.poisson(MORE_IMAGES, PATIENTS_OF_MEANS))
    findings = [simulate(rng, _of_mean(size), PATIENTS_OF_MEANS, True, owner) for size in sizes]
    truth, score = (np.stack([finding[place] for finding in findings], axis=1) for place in (0, 1))
    samples = patient_bootstrap(truth, score, owner, metrics=METRICS, replicates=replicates, seed=seed, workers=1)
    freedom = np.array([effective_patients(column, owner) - 1 for column in truth.T])
    result = {}
    for metric in METRICS:
        name = metric.name
        values = np.array([metric(*columns).value for columns in zip(truth.T, score.T, strict=True)], np.float64)
        low, high = mean_over_findings(values, samples[name], freedom)["ci"] or (0.0, 1.0)
        result[name] = (low <= target[name] <= high, high - low)
    return result


def _of_mean(size: int) -> Setting:
    return Setting(size, size / PATIENTS_OF_MEANS, 0.8, fixed=True)


def main() -> int:
    """Print a row per setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=1000)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print("| positive patients | prevalence | AUROC | AP | AP covered | length | AUROC covered | length |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    bad = 0
    sizes = [(20, True), (30, False), (60, False)]
    with ProcessPoolExecutor(options.workers) as pool:
        for (size, fixed), prevalence, area in product(sizes, (0.01, 0.05, 0.2), (0.7, 0.8, 0.9)):
            setting = Setting(size, prevalence, area, fixed)
            target = population(setting)
            work = partial(covered, setting=setting, target=target, replicates=options.replicates)
            cells, outside = _cells(list(pool.map(work, range(options.datasets), chunksize=10)))
            bad += outside
            kind = "fixed" if fixed else "free"
            print(f"| {size} {kind} | {prevalence:.0%} | {area} | {target['AP']:.3f} | {cells} |", flush=True)
        print("\n| positive patients of each finding | mAP | mAP covered | length | mAUC covered | length |")
        print("|---|---|---|---|---|---|", flush=True)
        for several in MEANS:
            each = {size: population(_of_mean(size)) for size in set(several)}
            target = {name: float(np.mean([each[size][name] for size in several])) for name in ("AP", "AUC")}
            work = partial(mean_covered, sizes=several, target=target, replicates=options.replicates)
            cells, outside = _cells(list(pool.map(work, range(options.datasets), chunksize=10)))
            bad += outside if min(several) >= FEW else 0
            print(f"| {', '.join(map(str, several))} | {target['AP']:.3f} | {cells} |", flush=True)
    return int(bad > 0)


def _cells(results: list[dict[str, tuple[bool, float]]]) -> tuple[str, int]:
    """Coverage and mean length of both metrics, and how many of the coverages are outside the range."""
    shares = {name: float(np.mean([result[name][0] for result in results])) for name in ("AP", "AUC")}
    lengths = {name: np.mean([result[name][1] for result in results]) for name in shares}
    cells = " | ".join(f"{shares[name]:.1%} | {lengths[name]:.2f}" for name in shares)
    return cells, sum(not 0.92 <= share <= 0.98 for share in shares.values())


if __name__ == "__main__":
    sys.exit(main())
