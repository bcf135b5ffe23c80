"""Small predictions to evaluate."""

import numpy as np
import polars as pl

from trcgl.dataset.labels import LabelSpace
from trcgl.evaluate.predictions import Predictions
from trcgl.metrics.calibrate import calibrated

SPACE = LabelSpace(
    "four",
    ("No Finding", "Effusion", "Nodule", "Hernia"),
    {"No Finding": "head", "Effusion": "head", "Nodule": "medium", "Hernia": "tail"},
    "name",
    normal="No Finding",
    normal_in_means=False,
)
PREVALENCE = np.array([0.4, 0.3, 0.15, 0.06])


def predictions(patients=300, *, seed=0, signal=2.0, space=SPACE, weight=None):
    """Two images per patient, a twentieth of the labels unknown; a larger `signal` is a better model."""
    rng = np.random.default_rng(seed)
    rows = 2 * patients
    sick = rng.random((patients, 4)) < PREVALENCE
    truth = np.repeat(sick, 2, axis=0).astype(np.float32)
    logit = (signal * (truth - 0.5) + rng.normal(size=(rows, 4)) + np.log(PREVALENCE)).astype(np.float32)
    truth[rng.random((rows, 4)) < 0.05] = np.nan
    return Predictions(
        image_id=pl.Series([f"image-{row}" for row in range(rows)]),
        patient_id=pl.Series([f"patient-{row // 2}" for row in range(rows)]),
        study_id=pl.Series([f"study-{row // 2}" for row in range(rows)]),
        view=pl.Series(["frontal", "lateral"] * patients),
        label_source=pl.Series([None] * rows, dtype=pl.String),
        age=pl.Series([float(row % 90) for row in range(rows)]),
        sex=pl.Series(["F", "F", None, "M"] * (rows // 4)),
        weight=np.ones(rows) if weight is None else weight,
        score=calibrated(logit, 1.0),
        truth=truth,
        space=space,
        logit=logit,
    )
