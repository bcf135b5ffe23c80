"""Distances between two sets of feature vectors, in tiles of bounded size.

- `polynomial`, `gaussian`: kernels of the maximum mean discrepancy (Gretton et al. 2012); the cubic one is that of the
  KID (Bińkowski et al. 2018). `group_sums` adds them up for `permutation.TwoGroups`.
- `frechet`: Fréchet distance of two normal distributions (Heusel et al. 2017).
- `neighborhood`: precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

Everything is computed in float64: a float32 sum over 10⁸ pairs, or a float32 distance between near duplicates, has an
error as large as the result.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trcgl.core.errors import DataError
from trcgl.metrics.rows import Value

Kernel = Callable[[Tensor, Tensor], Tensor]  # from rows (A, D) and (B, D) in float64 to a value for every pair (A, B)

NEIGHBORS = 5
_PRODUCTS = 2**22  # pairs in memory at once: 32 MiB
_TILE = 2**11  # rows converted to float64 at once


@dataclass(frozen=True)
class Neighborhood:
    """Overlap of the neighborhoods of real and synthetic images."""

    precision: float  # share of the synthetic images within reach of a real image
    recall: float  # share of the real images within reach of a synthetic image
    density: float  # mean number of real images that reach a synthetic one, over k; near 1 on equal distributions
    coverage: float  # share of the real images that reach a synthetic image


def polynomial(x: Tensor, y: Tensor) -> Tensor:
    """The kernel of the KID: (x · y / D + 1)³."""
    product = (x @ y.T).div_(x.shape[1]).add_(1)
    return product.square().mul_(product)


def gaussian(bandwidth: float) -> Kernel:
    """The kernel exp(−|x − y|² / 2σ²)."""
    if not bandwidth > 0:
        raise DataError(f"bandwidth {bandwidth} is not positive: most images have equal features. Use another space.")
    return lambda x, y: squared_distance(x, y).mul_(-0.5 / bandwidth**2).exp_()


def squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """|x − y|² of every pair, never below 0."""
    lengths = x.square().sum(1)[:, None] + y.square().sum(1)
    return torch.addmm(lengths, x, y.T, alpha=-2).clamp_(min=0)


def median_bandwidth(real: Float[np.ndarray, "rows features"], most: int = 2000) -> float:
    """Median distance of two real images; of `most` evenly spaced rows if there are more."""
    rows = np.linspace(0, len(real) - 1, min(len(real), most)).round().astype(int)
    chosen = torch.from_numpy(real[rows]).double()
    return float(np.median(squared_distance(chosen, chosen).sqrt().numpy()[np.triu_indices(len(rows), 1)]))


def frechet(x: Float[np.ndarray, "rows features"], y: Float[np.ndarray, "others features"]) -> Value:
    """|μ − ν|² + tr(Σ + Λ − 2 (Σ Λ)^½), refused if there are fewer rows than features.

    The last trace is also that of the square root of Σ^½ Λ Σ^½, which is symmetric: its eigenvalues are real, and an
    eigenvalue that rounding made negative counts as 0.
    """
    check(x, y)
    if (fewest := min(len(x), len(y))) < x.shape[1]:
        return Value(None, f"{fewest} images are fewer than the {x.shape[1]} features: most of the distance were bias")
    (mu, sigma), (nu, lambda_) = _moments(x), _moments(y)
    values, vectors = torch.linalg.eigh(sigma)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ lambda_ @ root).clamp(min=0).sqrt().sum()
    return Value(max(0.0, float((mu - nu).square().sum() + sigma.trace() + lambda_.trace() - 2 * shared)))


def reach(features: Float[np.ndarray, "rows features"], k: int = NEIGHBORS) -> Float[Tensor, " rows"]:
    """Squared distance from each row to its k-th nearest among the others."""
    check(features)
    if len(features) <= k:
        raise DataError(f"{len(features)} images: neighborhoods of {k} take more. Generate or gather more, or lower k.")
    reached = torch.empty(len(features), dtype=torch.float64)
    for start, squared in strips(features, features, squared_distance):
        rows = torch.arange(len(squared))
        squared[rows, start + rows] = torch.inf
        reached[start : start + len(squared)] = squared.topk(k, dim=1, largest=False).values[:, -1]
    return reached


def neighborhood(
    real: Float[np.ndarray, "real features"],
    synthetic: Float[np.ndarray, "synthetic features"],
    k: int = NEIGHBORS,
    real_reach: Float[Tensor, " real"] | None = None,
) -> Neighborhood:
    """Precision, recall, density and coverage; an image reaches as far as its k-th neighbor in its own set.

    `real_reach` is `reach(real, k)` if it is known.
    """
    real_reach = reach(real, k) if real_reach is None else real_reach
    synthetic_reach = reach(synthetic, k)
    recalled, covered = torch.zeros(2, len(real), dtype=torch.bool)
    reached_by = torch.zeros(len(synthetic), dtype=torch.int64)
    for start, squared in strips(real, synthetic, squared_distance):
        rows = slice(start, start + len(squared))
        recalled[rows] = (squared <= synthetic_reach).any(1)
        within = squared <= real_reach[rows, None]
        covered[rows] = within.any(1)
        reached_by += within.sum(0)
    shares = reached_by > 0, recalled, reached_by.double() / k, covered
    return Neighborhood(*(float(share.double().mean()) for share in shares))


def group_sums(
    x: Float[np.ndarray, "rows features"], owner: Int[np.ndarray, " rows"], kernel: Kernel
) -> Float[np.ndarray, "groups groups"]:
    """Sum of the kernel over the pairs of a row of one group and a row of another (or the same)."""
    groups, place = int(owner.max()) + 1, torch.from_numpy(owner)
    total = torch.zeros(groups, groups, dtype=torch.float64)
    for start, values in strips(x, x, kernel):
        columns = torch.zeros(len(values), groups, dtype=torch.float64).index_add_(1, place, values)
        total.index_add_(0, place[start : start + len(values)], columns)
    return total.numpy()


def strips(
    x: Float[np.ndarray, "rows features"], y: Float[np.ndarray, "others features"], pairwise: Kernel
) -> Iterator[tuple[int, Tensor]]:
    """Yield `pairwise` of a few rows of x at a time with all of y: index of the first row, values (A, len(y))."""
    height = max(1, _PRODUCTS // len(y))
    for start in range(0, len(x), height):
        rows = torch.from_numpy(x[start : start + height]).double()
        values = torch.empty(len(rows), len(y), dtype=torch.float64)
        for first in range(0, len(y), _TILE):
            values[:, first : first + _TILE] = pairwise(rows, torch.from_numpy(y[first : first + _TILE]).double())
        yield start, values


def check(*sets: Float[np.ndarray, "_ features"]) -> None:
    """Refuse sets of fewer than two rows and values that are not finite."""
    for features in sets:
        if len(features) < 2:
            raise DataError(f"{len(features)} images: a distance between two sets takes at least two of either.")
        if not (finite := np.isfinite(features).all(1)).all():
            raise DataError(f"features of image {int(finite.argmin())} are not finite. Use another feature space.")


def _moments(x: np.ndarray) -> tuple[Tensor, Tensor]:
    rows = torch.from_numpy(x).double()
    return rows.mean(0), torch.cov(rows.T)
