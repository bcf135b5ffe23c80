"""Predictions of imagined runs: patients, seeds and both together bring noise of their own."""

import numpy as np

from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.metrics.bootstrap import patient_bootstrap
from trcgl.study.statistics import Runs

FINDINGS = 3
"""Of the tail."""


def resample_patients(rng, patients=500, prevalence=0.06):
    """Labels (patients, findings), and how hard every patient is for every network."""
    truth = (rng.random((patients, FINDINGS)) < prevalence).astype(np.float64)
    return truth, rng.normal(size=truth.shape)


def runs(rng, truth, hardness, *, signal=2.0, seeds=(0, 1, 2), between=0.15, own=0.4, replicates=250):
    """Tail mAP of an arm's runs.

    Args:
        rng: random generator.
        truth: of `resample_patients`.
        hardness: of `resample_patients`; shared by all runs.
        signal: distance between positives and negatives: how good the arm is.
        seeds: of the runs.
        between: standard deviation of the signal between seeds.
        own: of interaction of run and patient.
        replicates: resamples of patients, the same for every run.
    """
    values, resampled = [], []
    for _ in seeds:
        learned = signal + between * rng.normal()
        score = learned * truth + hardness + own * rng.normal(size=truth.shape)
        values.append(np.mean([AVERAGE_PRECISION(*pair).value for pair in zip(truth.T, score.T, strict=True)]))
        patients = np.arange(len(truth))
        again = patient_bootstrap(
            truth, score, patients, metrics=(AVERAGE_PRECISION,), replicates=replicates, workers=1
        )
        resampled.append(again["AP"].mean(1))
    return Runs(tuple(seeds), np.array(values), np.array(resampled))
