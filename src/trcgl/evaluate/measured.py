"""The metrics of every finding on one split, beside the same on every draw of its patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trcgl.evaluate.predictions import Predictions
from trcgl.metrics import metrics
from trcgl.metrics.bootstrap import patient_bootstrap
from trcgl.metrics.intervals import effective_patients
from trcgl.metrics.metrics import Metric

RANKED = ("AP", "AUC")
"""Metrics that need no threshold."""
CALLED = ("F1", "ECE")


@dataclass(frozen=True)
class Measured:
    """What one set of predictions is worth.

    Args:
        owner: number of the patient of every image.
        metrics: name to the metric of every finding.
        replicates: name to the same on every draw of patients, NaN where undefined.
        freedom: effective positive patients of every finding less one, the ν of its intervals.
    """

    owner: Int[np.ndarray, " rows"]
    metrics: dict[str, tuple[Metric, ...]]
    replicates: dict[str, Float[np.ndarray, "replicates findings"]]
    freedom: Float[np.ndarray, " findings"]

    def values(self, name: str) -> Float[np.ndarray, " findings"]:
        """A metric of every finding, NaN where undefined."""
        return np.array([one.value for one in self.metrics[name]], np.float64)


def measure_findings(
    predictions: Predictions,
    thresholds: Mapping[str, float] | None = None,
    *,
    bootstrapped: Sequence[str] = RANKED,
    replicates: int,
    seed: int,
) -> Measured:
    """AP and AUROC of every finding; with thresholds F1 and calibration error, too.

    Args:
        predictions: to judge.
        thresholds: finding to the score from which it is called.
        bootstrapped: metrics whose replicates are wanted; `RANKED`, or these and `CALLED`.
        replicates: patient-bootstrap replicates.
        seed: of the bootstrap; the same seed draws the same patients for every run that was judged on these images.
    """
    space, weight = predictions.space, predictions.weight
    truth, score = predictions.truth.astype(np.float64), predictions.score.astype(np.float64)
    _, owner = np.unique(predictions.patient_id.to_numpy(), return_inverse=True)
    found: dict[str, list[Metric]] = {name: [] for name in (*RANKED, *(CALLED if thresholds else ()))}
    for column, finding in enumerate(space.findings):
        rows = (truth[:, column], score[:, column], weight)
        found["AP"].append(metrics.average_precision(*rows))
        found["AUC"].append(metrics.auroc(*rows))
        if thresholds:
            found["F1"].append(metrics.f1_at(thresholds[finding], *rows))
            found["ECE"].append(metrics.expected_calibration_error(*rows))
    cuts = [thresholds[one] for one in space.findings] if thresholds and set(bootstrapped) > set(RANKED) else None
    drawn = patient_bootstrap(truth, score, owner, weight, thresholds=cuts, replicates=replicates, seed=seed)
    samples = {"AP": drawn.ap, "AUC": drawn.auroc, "F1": drawn.f1, "ECE": drawn.ece}
    return Measured(
        owner,
        {name: tuple(of) for name, of in found.items()},
        {name: samples[name] for name in bootstrapped},
        np.array([effective_patients(one, owner, weight) - 1 for one in truth.T]),
    )
