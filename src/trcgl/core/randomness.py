"""Every random draw is a function of a seed and of what it is for, never of what was drawn before.

A run that was interrupted, sharded or loaded by several workers therefore repeats the same draws.
"""

import hashlib

import numpy as np


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, for instance `derive_seed(recipe.seed, "augment", step)`.

    The derivation is a BLAKE2b digest, so neighboring purposes share nothing.
    """
    text = "\x1f".join(str(part) for part in (seed, *purpose))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator for one purpose."""
    return np.random.default_rng(derive_seed(seed, *purpose))
