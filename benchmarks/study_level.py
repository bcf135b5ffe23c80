"""Error rates of studies: simulated studies of two arms with and without a difference.

    OMP_NUM_THREADS=1 python benchmarks/study_level.py

A run is a sum of normal parts, of the patients (shared by both arms), of the patients and the arm, of the seed, and of
the interaction of a run and a patient; the mix of the four is varied. The interval of `trcgl.study.statistics` is
compared with that of a bootstrap over patients and seeds, each resampled with replacement. Exits with 1 if the
interval at 95 % excludes 0 without a true difference in more than 8 % of the studies of three seeds, or if an effect
of the detectable difference is found in fewer than 70 % of them.
"""

import argparse
import sys

import numpy as np

from trcgl.study.statistics import Runs, difference

MIXES = {
    "patients alone": (1.0, 0.05, 0.1),
    "patients and seeds": (1.0, 1.0, 0.5),
    "seeds": (0.1, 2.0, 0.5),
    "interaction of run and patient": (0.1, 0.1, 1.5),
}
"""Standard deviations: of an arm's patients, of a seed, of a run and a patient."""
SEEDS = (2, 3, 5)
REPLICATES = 200


def arm(rng: np.random.Generator, shared: np.ndarray, mix: tuple[float, float, float], seeds: int) -> Runs:
    """The runs of one arm; column 0 is the sample of patients itself."""
    patients, seed, own = mix
    parts = shared + patients * rng.normal(size=len(shared))
    parts = parts + seed * rng.normal(size=(seeds, 1)) + own * rng.normal(size=(seeds, len(shared)))
    return Runs(tuple(range(seeds)), parts[:, 0], parts[:, 1:])


def both_resampled(rng: np.random.Generator, one: Runs, other: Runs) -> bool:
    """Whether the percentile interval of a bootstrap over patients and seeds leaves out 0."""
    seeds, replicates = one.replicates.shape
    gains = one.replicates - other.replicates
    centered = gains - gains.mean(axis=1, keepdims=True) + (one.values - other.values)[:, None]
    resampled = rng.integers(0, seeds, (seeds, replicates))
    low, high = np.quantile(np.take_along_axis(centered, resampled, axis=0).mean(axis=0), [0.025, 0.975])
    return bool(low > 0 or high < 0)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000, help="of each kind")
    studies = parser.parse_args().studies
    worst, weakest = 0.0, 1.0
    print(f"{'mix':<32}{'seeds':>6}{'false':>8}{'both resampled':>16}{'found at detectable':>21}{'at twice':>10}")
    for name, mix in MIXES.items():
        for seeds in SEEDS:
            rng = np.random.default_rng(seeds)
            pairs, false, resampled = [], 0, 0
            for _ in range(studies):
                shared = rng.normal(size=1 + REPLICATES)
                one, other = (arm(rng, shared, mix, seeds) for _ in range(2))
                result = difference(one, other, 100.0)
                if result is None:
                    raise RuntimeError("the two arms share no seed")
                low, high = result.interval() or (0.0, 0.0)
                pairs.append((result.value, (high - low) / 2, result.detectable() or 0.0))
                false += low > 0 or high < 0
                resampled += both_resampled(rng, one, other)
            value, reach, detectable = np.array(pairs).T
            stated = float(np.median(detectable))
            found = [float((value + times * stated > reach).mean()) for times in (1, 2)]
            rates = f"{false / studies:>8.1%}{resampled / studies:>16.1%}{found[0]:>21.1%}{found[1]:>10.1%}"
            print(f"{name:<32}{seeds:>6}{rates}", flush=True)
            if seeds == 3:
                worst, weakest = max(worst, false / studies), min(weakest, found[0])
    sys.exit(worst > 0.08 or weakest < 0.7)


if __name__ == "__main__":
    main()
