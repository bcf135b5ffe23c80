"""Real or synthetic: can a simple classifier distinguish the synthetic images of a finding from real images?

The auditor's score shows that a finding is recognized, not that the image looks real. Logistic regression on features,
cross-validated with all images of a patient in one fold, separates synthetic from held-out real images of the finding.
The null separates real training images from held-out ones in the same way and with the same number of images: .5,
except for differences between the patients of the two splits.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trcgl.audit.check import Check, Evidence
from trcgl.audit.intervals import REPLICATES, auroc_with_interval, undefined
from trcgl.audit.patients import PatientImages, Sides
from trcgl.core.randomness import derive_seed
from trcgl.core.randomness import generator as randomness

FOLDS = 5
LEAST = 20  # fewest images of either kind
_PENALTY = 1e-2  # C of the regression: there are more features than images


@dataclass(frozen=True)
class RealOrSynthetic:
    """How well synthetic images are distinguished from real images."""

    auroc: dict[str, Any]  # on images outside the fitted folds; value and 95 % interval over patients
    null: dict[str, Any]  # the same for real training images against the same held-out images
    synthetic: int  # images compared with the held-out images, in both comparisons
    real: int  # held-out images


def real_or_synthetic(sides: Sides, *, seed: int = 0, replicates: int = REPLICATES) -> RealOrSynthetic:
    """Separate synthetic from held-out images, and training from held-out images, with as many images in both."""
    count = min(len(sides.synthetic.features), len(sides.train.features))

    def measured(name: str, side: PatientImages) -> dict[str, Any]:
        chosen = np.sort(randomness(seed, "real or drawn", name).permutation(len(side.features))[:count])
        return _separate(side.of_rows(chosen), sides.held_out, seed, replicates)

    synthetic, null = measured("drawn", sides.synthetic), measured("train", sides.train)
    return RealOrSynthetic(synthetic, null, count, len(sides.held_out.features))


def _separate(images: PatientImages, held_out: PatientImages, seed: int, replicates: int) -> dict[str, Any]:
    truth = np.repeat([1.0, 0.0], [len(images.features), len(held_out.features)])
    if min(len(images.features), len(held_out.features)) < LEAST:
        return undefined(f"fewer than {LEAST} images of one kind")
    if min(len(images.names), len(held_out.names)) < FOLDS:
        return undefined(f"images of fewer than {FOLDS} patients of one kind")
    owner = np.unique(np.concatenate([images.patients, held_out.patients]), return_inverse=True)[1]
    features = np.concatenate([images.features, held_out.features]).astype(np.float64)
    score = np.empty(len(features))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=derive_seed(seed, "folds") % 2**32)
    for fitted, left_out in folds.split(features, truth, owner):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=_PENALTY, max_iter=1000, class_weight="balanced"))
        score[left_out] = model.fit(features[fitted], truth[fitted]).decision_function(features[left_out])
    return auroc_with_interval(truth, score, owner, both_sides=True, replicates=replicates, seed=seed)


def of_finding(evidence: Evidence, finding: str) -> dict[str, Any]:
    """The result in every feature space."""
    return {
        name: dataclasses.asdict(
            real_or_synthetic(evidence.sides(features, *evidence.rows_of(finding)), seed=evidence.seed)
        )
        for name, features in evidence.features.items()
    }


CHECK = Check(
    key="real_or_synthetic",
    order=40,
    title="Real or synthetic",
    null="real training images against held-out ones, as many images",
    of_finding=of_finding,
)
