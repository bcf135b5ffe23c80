"""Random numbers as a function of a seed and a purpose, never of earlier random numbers.

Interrupted, sharded and parallel runs therefore use the same random numbers.
"""

import hashlib

import numpy as np


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for a purpose, for instance `derive_seed(recipe.seed, "augment", step)`.

    The derivation is a BLAKE2b digest, so seeds of similar purposes are unrelated.
    """
    text = "\x1f".join(str(part) for part in (seed, *purpose))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator for a purpose."""
    return np.random.default_rng(derive_seed(seed, *purpose))
