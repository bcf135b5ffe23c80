"""How often the 95 % interval covers the truth: simulated data sets with at least twenty positive patients.

    OMP_NUM_THREADS=1 python benchmarks/coverage.py

Patients bring one image and some bring more; a diseased patient shows the finding on four images out of five; the
scores of one patient's images correlate (.5). The truth is the population's: AUROC in closed form, AP at the
population's prevalence from three million patients. `fixed` data sets have exactly so many positive patients, as a
split made by rule may have; `free` ones have them on average, and those with fewer than twenty are drawn anew. The
bootstrap takes the number of positive patients for chance, so it errs on the safe side where that number is fixed.
Exits with 1 if any coverage lies outside 92-98 %, on either side.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from scipy.stats import norm

from trcgl.evaluate.bootstrap import patient_bootstrap
from trcgl.evaluate.intervals import FEW, effective_patients, interval
from trcgl.evaluate.metrics import auroc, average_precision

SHOWS = 0.8
"""Share of a diseased patient's images on which the finding shows."""
CORRELATION = 0.5
MORE_IMAGES = 0.7
"""Mean number of images beyond a patient's first (Poisson)."""


@dataclass(frozen=True)
class Setting:
    """A population and a size of data set."""

    positive_patients: int
    prevalence: float
    auroc: float
    fixed: bool

    @property
    def patients(self) -> int:
        """Patients in a data set; some diseased ones have no positive image."""
        visible = SHOWS + (1 - SHOWS) * (1 - np.exp(-MORE_IMAGES * SHOWS))
        return round(self.positive_patients / (self.prevalence * (1 if self.fixed else visible)))


def draw(rng: np.random.Generator, setting: Setting, patients: int, fixed: bool) -> tuple[np.ndarray, ...]:
    """Labels, scores and owners of the images of so many patients."""
    diseased = rng.random(patients) < setting.prevalence
    if fixed:
        diseased = np.arange(patients) < setting.positive_patients
    owner = np.repeat(np.arange(patients), 1 + rng.poisson(MORE_IMAGES, patients))
    positive = diseased[owner] & (rng.random(len(owner)) < SHOWS)
    if fixed:
        first = np.flatnonzero(np.diff(owner, prepend=-1))[: setting.positive_patients]
        positive[first] = True
    shared, own = rng.normal(size=patients)[owner], rng.normal(size=len(owner))
    noise = np.sqrt(CORRELATION) * shared + np.sqrt(1 - CORRELATION) * own
    return positive.astype(np.float64), np.sqrt(2) * norm.ppf(setting.auroc) * positive + noise, owner


def population(setting: Setting, patients: int = 3_000_000) -> dict[str, float]:
    """AP and AUROC of the population."""
    truth, score, _ = draw(np.random.default_rng(7), setting, patients, fixed=False)
    return {"AP": average_precision(truth, score).value or 0.0, "AUC": setting.auroc}


def covered(seed: int, setting: Setting, target: dict[str, float], replicates: int) -> dict[str, tuple[bool, float]]:
    """Whether the intervals of one data set hold the truth, and how long they are."""
    rng = np.random.default_rng(seed)
    positive_patients = 0
    while positive_patients < FEW:
        truth, score, owner = draw(rng, setting, setting.patients, setting.fixed)
        positive_patients = len(np.unique(owner[truth == 1]))
    drawn = patient_bootstrap(truth[:, None], score[:, None], owner, replicates=replicates, seed=seed, workers=1)
    freedom = effective_patients(truth, owner) - 1
    told = {}
    values = {"AP": (average_precision(truth, score).value, drawn.ap), "AUC": (auroc(truth, score).value, drawn.auroc)}
    for name, (value, samples) in values.items():
        low, high = interval(value, samples[:, 0], freedom).ends
        told[name] = (low <= target[name] <= high, high - low)
    return told


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
            told = list(pool.map(work, range(options.datasets), chunksize=10))
            cells = []
            for name in ("AP", "AUC"):
                share = float(np.mean([one[name][0] for one in told]))
                bad += not 0.92 <= share <= 0.98
                cells.append(f"{share:.1%} | {np.mean([one[name][1] for one in told]):.2f}")
            kind = "fixed" if fixed else "free"
            print(
                f"| {size} {kind} | {prevalence:.0%} | {area} | {target['AP']:.3f} | {' | '.join(cells)} |", flush=True
            )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
