"""Can a simple classifier tell drawn images of a finding from real ones?

A score of the auditor says that a finding is recognized, not that it looks real: speckle in the right place is enough.
Logistic regression on features, cross-validated with all images of a patient in one fold, tells drawn images from real
held-out ones of the same finding. The null tells real training images from real held-out ones in the same way and at
the same n: .5, but for what differs between the patients of two splits.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trcgl.audit.checks.label_fidelity import REPLICATES
from trcgl.core.randomness import derive_seed
from trcgl.core.randomness import generator as randomness
from trcgl.metrics.auroc import AUROC, auroc
from trcgl.metrics.bootstrap import patient_bootstrap
from trcgl.metrics.intervals import effective_patients, interval
from trcgl.metrics.summary import with_interval

FOLDS = 5
LEAST = 20
"""Fewer images of either kind tell nothing."""
_PENALTY = 1e-2  # C of the regression: there are more features than images


@dataclass(frozen=True)
class RealOrSynthetic:
    """How well drawn images are told from real ones.

    Args:
        auroc: of images that the classifier was not fitted on; value and 95 % interval over patients.
        null: the same for real training images against the same real held-out ones.
        drawn: images of each kind.
        real: held-out images.
    """

    auroc: dict[str, Any]
    null: dict[str, Any]
    drawn: int
    real: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value."""
        return dataclasses.asdict(self)


def real_or_drawn(
    drawn: Float[np.ndarray, "drawn features"],
    held_out: Float[np.ndarray, "real features"],
    train: Float[np.ndarray, "train features"],
    *,
    drawn_sources: Sequence[str],
    held_out_patients: Sequence[str],
    train_patients: Sequence[str],
    seed: int = 0,
    replicates: int = REPLICATES,
) -> RealOrSynthetic:
    """Tell drawn from real, and real from real.

    Args:
        drawn: features of drawn images of a finding.
        held_out: of real held-out ones.
        train: of real training ones; where there are fewer than drawn ones, both comparisons take so many.
        drawn_sources: patient whose label set each drawn image uses.
        held_out_patients: of the held-out images.
        train_patients: of the training images.
        seed: of subsets, folds and bootstrap.
        replicates: of the bootstrap.
    """
    count = min(len(drawn), len(train))
    sides = [
        _some(features, patients, count, seed, name)
        for name, features, patients in (("drawn", drawn, drawn_sources), ("train", train, train_patients))
    ]
    told = [_told(*side, held_out, held_out_patients, seed, replicates) for side in sides]
    return RealOrSynthetic(told[0], told[1], count, len(held_out))


def _some(
    features: np.ndarray, patients: Sequence[str], count: int, seed: int, name: str
) -> tuple[np.ndarray, list[str]]:
    chosen: Int[np.ndarray, " chosen"] = np.sort(
        randomness(seed, "real or drawn", name).permutation(len(features))[:count]
    )
    return features[chosen], [patients[place] for place in chosen]


def _told(
    features: np.ndarray,
    patients: Sequence[str],
    held_out: np.ndarray,
    held_out_patients: Sequence[str],
    seed: int,
    replicates: int,
) -> dict[str, Any]:
    truth = np.repeat([1.0, 0.0], [len(features), len(held_out)])
    owner = np.unique(np.array([*patients, *held_out_patients]), return_inverse=True)[1]
    sizes = [len(np.unique(owner[truth == kind])) for kind in (1, 0)]
    if min(len(features), len(held_out)) < LEAST:
        return {"value": None, "ci": None, "why": f"fewer than {LEAST} images of one kind"}
    if min(sizes) < FOLDS:
        return {"value": None, "ci": None, "why": f"images of fewer than {FOLDS} patients of one kind"}
    both = np.concatenate([features, held_out]).astype(np.float64)
    score = np.empty(len(both))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=derive_seed(seed, "folds") % 2**32)
    for fitted, left_out in folds.split(both, truth, owner):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=_PENALTY, max_iter=1000, class_weight="balanced"))
        score[left_out] = model.fit(both[fitted], truth[fitted]).decision_function(both[left_out])
    found = auroc(truth, score)
    assert found.value is not None
    samples = patient_bootstrap(
        truth[:, None], score[:, None], owner, metrics=(AUROC,), replicates=replicates, seed=seed
    )["AUC"][:, 0]
    freedom = min(effective_patients(kind, owner) for kind in (truth, 1 - truth)) - 1
    return with_interval(found.value, interval(found.value, samples, freedom))
