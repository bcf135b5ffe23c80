"""Label sets of the phantoms, those of PadChest with a chosen imbalance, and their patients.

**The benchmark p'.** PadChest-30 has p(S) for each of its 2,521 label sets, in which finding c has prevalence π_c; the
most frequent finding is R = 1054 times as frequent as the rarest. The setting `imbalance` = r gives the target
prevalences

    π'_c = κ π_c^a,   a = ln r / ln R,   κ such that Σ π'_c = Σ π_c

(as many findings per image as before; the most frequent is r times as frequent as the rarest), and p' is the
distribution closest to p that meets them:

    p' = argmin_q KL(q ‖ p)  subject to  Σ_S q(S) [c ∈ S] = π'_c,     p'(S) ∝ p(S) exp(Σ_{c ∈ S} θ_c)

(exponential tilting; θ is the solution of the convex dual). Train is sampled from p'.

**Val and test q.** The distribution closest to p' in which no finding is rarer than `FLOOR`; it has the same form with
θ ≥ 0. Each image weighs p'(S) / q(S), so that weighted metrics estimate those of the benchmark.
"""

import csv
import functools
from importlib import resources

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize

from trcgl.core.errors import DataError
from trcgl.phantom.findings import FINDINGS

FLOOR = 0.05  # smallest prevalence of a finding in val and test
RADIOGRAPHS = (0.70, 0.20, 0.10)  # shares of patients with one, two and three radiographs
AGE_SPREAD = 14.0  # standard deviation in years around the mean of a patient's findings
AGES = {"Normal": 47, "Pneumothorax": 46, "azygos lobe": 54, "fracture": 60, "hyperinflated lung": 62, "Mass": 66}
AGES |= {"sternotomy": 69, "cardiomegaly": 70, "vertebral degenerative changes": 70, "Hernia": 73, "Kyphosis": 75}
AGES |= {"aortic elongation": 74, "aortic atheromatosis": 76}
"""Mean ages of findings other than `USUAL_AGE`."""
USUAL_AGE = 63
MEN = {"Pneumothorax": 0.70, "Emphysema": 0.80, "sternotomy": 0.65, "Hernia": 0.35, "Kyphosis": 0.30}
"""Shares of men other than a half."""

Members = Bool[np.ndarray, "sets findings"]
Shares = Float[np.ndarray, " sets"]
PerImage = Int[np.ndarray, " images"]


@functools.cache
def padchest_label_sets() -> tuple[Members, Shares]:
    """The label sets of PadChest-30 in the order of `FINDINGS`, and the share of images with each."""
    with (resources.files("trcgl.phantom") / "label_sets.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    members = np.zeros((len(rows), len(FINDINGS)), bool)
    for place, row in enumerate(rows):
        members[place, [int(column) for column in row["findings"].split()]] = True
    images = np.array([int(row["images"]) for row in rows], float)
    return members, images / images.sum()


def benchmark(imbalance: float) -> Shares:
    """p': the share of each label set at an imbalance."""
    members, share = padchest_label_sets()
    prevalence = share @ members
    most = prevalence.max() / prevalence.min()
    if not 2 <= imbalance <= 5000:
        raise DataError(f"imbalance {imbalance}: give a ratio between 2 and 5000; PadChest's is {most:.0f}.")
    target = prevalence ** (np.log(imbalance) / np.log(most))
    return _tilted(share, members, target * prevalence.sum() / target.sum(), at_least=False)


def evaluation(share: Shares) -> Shares:
    """q: the closest distribution in which every finding has a prevalence of at least `FLOOR`."""
    members, _ = padchest_label_sets()
    return _tilted(share, members, np.full(members.shape[1], FLOOR), at_least=True)


def sample_evenly(share: Shares, images: int, rng: np.random.Generator) -> PerImage:
    """Systematic sample of label sets: the number of each finding is close to its expectation.

    Sets lie on a line, sets with the same rarest finding side by side, each as long as its share, and the images take
    the sets at equally spaced places.
    """
    members, _ = padchest_label_sets()
    prevalence = share @ members
    rarest = np.where(members, prevalence, np.inf).argmin(1)
    line = np.lexsort((rng.random(len(share)), prevalence[rarest]))
    places = (np.arange(images) + rng.random()) / images
    ends = np.cumsum(share[line])
    chosen = line[np.minimum(np.searchsorted(ends / ends[-1], places, side="right"), len(line) - 1)]
    return rng.permutation(chosen)


def sample_with_positives(share: Shares, positives: int, rng: np.random.Generator) -> PerImage:
    """The smallest systematic sample of label sets that has the given positives of every finding."""
    members, _ = padchest_label_sets()
    images = int(np.ceil(positives / FLOOR))
    while True:
        chosen = sample_evenly(share, images, rng)
        if members[chosen].sum(0).min() >= positives:
            return chosen
        images += max(1, images // 100)


def group_into_patients(label_set: PerImage, rng: np.random.Generator) -> PerImage:
    """Patient number of every image; in half of the cases two images of a patient have the same label set."""
    images = len(label_set)
    patient = np.empty(images, np.int64)
    # Half of the images are assigned in the order of their label sets, so that neighbors are alike; half in any order.
    alike = rng.random(images) < 0.5
    order = np.concatenate([np.flatnonzero(alike)[np.argsort(label_set[alike], kind="stable")], np.flatnonzero(~alike)])
    counts = rng.choice(len(RADIOGRAPHS), images, p=RADIOGRAPHS) + 1
    patient[order] = np.repeat(np.arange(images), counts)[:images]
    return patient


def describe_patients(
    patient: PerImage, members: Bool[np.ndarray, "images findings"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, " images"], list[str]]:
    """Random age and sex of the patient of every image, given the findings of all images of the patient."""
    people = int(patient.max()) + 1
    findings = np.zeros((people, members.shape[1]))
    np.add.at(findings, patient, members)
    share = findings / np.maximum(findings.sum(1, keepdims=True), 1)
    age = share @ np.array([AGES.get(name, USUAL_AGE) for name in FINDINGS], float)
    men = share @ np.array([MEN.get(name, 0.5) for name in FINDINGS])
    age = np.clip(np.round(age + AGE_SPREAD * rng.standard_normal(people)), 18, 97)
    sex = np.where(rng.random(people) < men, "M", "F")
    return age[patient], sex[patient].tolist()


def _tilted(share: Shares, members: Members, target: Float[np.ndarray, " findings"], *, at_least: bool) -> Shares:
    """The distribution closest to `share` whose prevalences equal the target, or reach it with `at_least`."""
    present = members.astype(float)
    start = np.log(share)

    def dual(theta: np.ndarray) -> tuple[float, np.ndarray]:
        energy = start + present @ theta
        top = energy.max()
        weight = np.exp(energy - top)
        total = weight.sum()
        return float(top + np.log(total) - theta @ target), (weight / total) @ present - target

    bounds = [(0, None) if at_least else (None, None)] * present.shape[1]
    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-9}
    theta = minimize(dual, np.zeros(present.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
    tilted = share * np.exp(present @ theta - (present @ theta).max())
    return tilted / tilted.sum()
