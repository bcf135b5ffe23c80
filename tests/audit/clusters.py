"""Feature vectors of patients whose images are alike."""

import numpy as np


def images_of(counts, *, alike=0.0, shift=0.0, side="p", features=16, seed=0):
    """Features of `counts[i]` images of patient i, correlated by `alike` within a patient, and the patient of each."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(counts)), counts)
    common, own = rng.normal(size=(len(counts), features)), rng.normal(size=(len(owner), features))
    spread = 2 / np.sqrt(np.arange(1, features + 1))  # a few directions vary most, as in a network's features
    values = (np.sqrt(alike) * common[owner] + np.sqrt(1 - alike) * own) * spread + shift
    return values.astype(np.float32), [f"{side}{patient}" for patient in owner]


def several(patients, mean, seed):
    """Numbers of images with a long tail: most patients have one, a few have many."""
    return np.random.default_rng([seed, 1]).geometric(1 / mean, patients)
