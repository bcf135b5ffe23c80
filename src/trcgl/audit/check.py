"""The contract of a check of the audit: its inputs, its results and the verdict.

A check compares synthetic images with held-out real images and reports the same comparison for real images, its null.
To add a check, write `checks/NAME.py` with a `CHECK`, its template `checks/NAME.html.j2` and a test. The audit,
`audit.json` and the page iterate over the registry of `trcgl.audit.checks`, which finds it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from markupsafe import Markup

from trcgl.audit.features import FeatureSpace
from trcgl.audit.options import AuditOptions
from trcgl.audit.patients import PatientImages, Sides
from trcgl.audit.sample_plan import WITH
from trcgl.audit.scored_images import RealImages, ScoredImages
from trcgl.core.randomness import generator as randomness

PASS, FAIL, TOO_EASY = "pass", "fail", "too easy"
NOT_ASSESSABLE, NOT_REPRESENTABLE = "not assessable", "not representable"
Rows = Int[np.ndarray, " _"]
_MOST = 2000  # real images with a finding that are compared: the cost of distances grows with the square


@dataclass(frozen=True)
class Verdict:
    """The conclusion about a finding."""

    word: str  # `pass`, `fail`, `too easy`, `not representable` or `not assessable`
    why: str  # the reason with its numbers
    cautions: tuple[str, ...] = ()  # sentences that a reader must know beside the verdict

    def but(self, *cautions: str) -> "Verdict":
        """The same verdict with more cautions."""
        return replace(self, cautions=(*self.cautions, *cautions))


@dataclass(frozen=True)
class RowFeatures:
    """Features of real images, looked up by row."""

    rows: Int[np.ndarray, " rows"]  # ascending
    values: Float[np.ndarray, "rows features"]

    def __getitem__(self, rows: Int[np.ndarray, " chosen"]) -> Float[np.ndarray, "chosen features"]:
        return self.values[np.searchsorted(self.rows, rows)]


@dataclass(frozen=True)
class Features:
    """Features in one space of the images that the checks compare."""

    space: FeatureSpace  # computes features of further images
    synthetic: Float[np.ndarray, "rows features"]  # features of the sheet `with`
    train: RowFeatures  # features of rows of `ScoredImages.unseen`
    held_out: RowFeatures  # features of rows of `ScoredImages.held_out`


@dataclass(frozen=True)
class Evidence:
    """The inputs of all checks."""

    images: ScoredImages  # synthetic and real images with the auditor's scores
    options: AuditOptions  # options of the audit
    features: dict[str, Features] = field(default_factory=dict)  # name of a feature space to the features in it
    # results of `Check.of_all` so far, by key; complete before the first `Check.of_finding`
    overall: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Seed of every resampling."""
        return self.options.seed

    @property
    def first_space(self) -> Features:
        """The features in the first space."""
        return self.features[self.options.features[0]]

    def compute_features(self, spaces: Mapping[str, FeatureSpace]) -> None:
        """Compute features of the synthetic images and of the real images with any audited finding, in every space."""
        images = self.images
        train_rows, held_out_rows = (
            np.unique(np.concatenate([self.compared(side, finding) for finding in images.findings]))
            for side in (images.unseen, images.held_out)
        )
        for name, space in spaces.items():
            train = RowFeatures(train_rows, space(images.pixels(images.unseen, train_rows)))
            held_out = RowFeatures(held_out_rows, space(images.pixels(images.held_out, held_out_rows)))
            self.features[name] = Features(space, space(images.sheets[WITH].images), train, held_out)

    def compared(self, side: RealImages, finding: str) -> Int[np.ndarray, " rows"]:
        """Rows of the real images with a finding; a random 2,000 of them if there are more."""
        rows = self.images.positives(side, finding)
        return np.sort(randomness(self.seed, "compared", finding).permutation(rows)[:_MOST])

    def sides(self, features: Features, synthetic: Rows, held_out: Rows, train: Rows) -> Sides:
        """Features and patients of rows of the sheet `with`, of `images.held_out` and of `images.unseen`."""
        images = self.images
        return Sides(
            PatientImages.of(features.synthetic[synthetic], images.sheets[WITH].patients(synthetic)),
            PatientImages.of(features.held_out[held_out], images.held_out.patients(held_out)),
            PatientImages.of(features.train[train], images.unseen.patients(train)),
        )

    def rows_of(self, finding: str) -> tuple[Rows, Rows, Rows]:
        """Rows with one finding of the sheet `with`, of `images.held_out` and of `images.unseen`."""
        images = self.images
        held_out, train = (self.compared(side, finding) for side in (images.held_out, images.unseen))
        return images.sheets[WITH].rows_of(finding), held_out, train


@dataclass(frozen=True)
class Check:
    """One check."""

    key: str  # name of the module, of the template and of the result in `audit.json`
    order: int  # place among the checks, on the page and in `audit.json`; lower numbers come first
    title: str  # heading on the page
    null: str  # what the result is compared with, for the page
    # result for one finding, a plain JSON value; None if the check does not apply to it
    of_finding: Callable[[Evidence, str], dict[str, Any] | None] | None = None
    # result for all findings together, a plain JSON value; None if the check does not apply
    of_all: Callable[[Evidence], Any] | None = None
    # the verdict so far after this check, from its result for the finding; checks run by `order`
    verdict: Callable[[dict[str, Any], Verdict], Verdict] | None = None
    plot: Callable[[Any], Markup | None] | None = None  # a plot of the result of `of_all`

    @property
    def template(self) -> str:
        """The template: a macro `finding` for results of `of_finding`, a macro `overall` for those of `of_all`."""
        return f"checks/{self.key}.html.j2"


def status(real: int, synthetic: int) -> tuple[str, str]:
    """Whether a finding is assessable with its numbers of images, and these numbers as text."""
    numbers = f"{real} held-out real images with it and {synthetic} synthetic"
    if real >= 50 and synthetic >= 200:
        return "assessable", numbers
    if real >= 20:
        return "indicative", f"{numbers}; 50 and 200 are needed for more than an indication"
    return "not assessable", f"{numbers}; 20 real images are needed for an indication"


def conclude(results: Mapping[str, Any], checks: Sequence[Check]) -> Verdict:
    """The verdict on a finding, from the results of its checks by key and its `counts`."""
    verdict = Verdict(NOT_ASSESSABLE, "no check gave a verdict")
    for check in checks:
        if check.verdict and (result := results.get(check.key)):
            verdict = check.verdict(result, verdict)
    if (patients := results["counts"]["source_patients"]) < 20:
        verdict = verdict.but(f"Label sets of only {patients} patients.")
    return verdict
