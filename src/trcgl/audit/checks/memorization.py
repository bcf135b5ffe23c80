"""Does the generator repeat images that it learned from? Copies one by one, and a test of the set as a whole.

Two questions are asked of every drawn image, and of real held-out images, which cannot have been copied:

- *closer*: is its nearest neighbor in train closer than in an equally large set of held-out patients?
- *much closer*: is it closer to train than to held-out, by more than in 99 of 100 held-out images? The measure is
  (1 − similarity to train) / (1 − similarity to held-out), over all images of both.

The first sees that drawn images lean to train as a whole, the second that a few of them are copies: a tenth of copies
among 200 hardly moves the share that is closer. Both are tested with Fisher's exact test, one-sided, against held-out
images. Where train and held-out differ in kind, fresh images like those of train would stand out, too; so drawn images
must also stand out from training images, each compared with the other patients' images. The larger p of the two counts,
the smaller of the two questions doubled.

Similarity is the best correlation of details over mirroring and crops of up to 5 % (`registration`). A drawn image is
listed as a copy where it is more similar to a training image than 999 of 1,000 held-out images would be: the 99.9 %
quantile of a Gumbel law through the quartiles of their similarities, so that a patient who hides in both sets
under two names does not move it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.stats import fisher_exact

from trcgl.audit.registration import Matches, best_matches
from trcgl.core.errors import DataError
from trcgl.core.randomness import generator

LEVEL = 0.01
LEAST = 20
"""Fewer patients in train or held-out, or drawn images, are not tested."""
SHOWN = 20

_QUERIES = 300  # real images that are asked, one of each patient
_RARE = 0.01  # of held-out images are much closer to train
_COPY = 0.999  # quantile of the similarity of other patients' images
_CERTAIN = 0.999  # similarity of what is a copy even where real images repeat each other
_CROP, _BRIGHTNESS = 0.01, 0.02  # smaller changes are not worth a word


class Nearness(NamedTuple):
    """Similarity of some images to the nearest of train and of held-out, and within the equally large sets of both."""

    train: Float[np.ndarray, " images"]
    held_out: Float[np.ndarray, " images"]
    equal_train: Float[np.ndarray, " images"]
    equal_held_out: Float[np.ndarray, " images"]


@dataclass(frozen=True)
class Pair:
    """A drawn image and the training image that it resembles most.

    Args:
        drawn: row.
        train: row.
        similarity: correlation of details, at most 1.
        change: from the training image to the drawn one, in words, if it is a copy.
    """

    drawn: int
    train: int
    similarity: float
    change: str


@dataclass(frozen=True)
class Closeness:
    """How many images are closer to train: Fisher's tables.

    Args:
        drawn: how many are and how many are not.
        held_out: the same of held-out images, the null.
        train: the same of training images against other patients.
        p: of drawn against held-out images, one-sided.
        p_train: of drawn against training images.
    """

    drawn: tuple[int, int]
    held_out: tuple[int, int]
    train: tuple[int, int]
    p: float
    p_train: float

    @property
    def shares(self) -> dict[str, float]:
        """Share of the images that are closer to train."""
        return {name: yes / (yes + no) for name in ("drawn", "held_out", "train") for yes, no in [getattr(self, name)]}


@dataclass(frozen=True)
class Memorization:
    """What was found.

    Args:
        flagged: p < .01; None where it was not tested.
        p: of both questions together; None where it was not tested.
        why: it was not.
        closer: to train than to as many held-out images.
        much_closer: than in 99 of 100 held-out images.
        copies: drawn images that are listed, by row.
        held_out_copies: how many of the held-out images that were asked would be listed.
        limit: similarity of a copy; None where held-out images are too few.
        pairs: the 20 most similar, most similar first.
        detectable: smallest share of copies among as many drawn images that would be flagged; None where none would.
        n: images and patients of each set; `compared` is the size of the equal sets, `asked` the real images asked.
    """

    flagged: bool | None
    p: float | None
    why: str | None
    closer: Closeness | None
    much_closer: Closeness | None
    copies: tuple[Pair, ...]
    held_out_copies: int | None
    limit: float | None
    pairs: tuple[Pair, ...]
    detectable: float | None
    n: dict[str, dict[str, int]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value."""
        told = dataclasses.asdict(self)
        for name in ("closer", "much_closer"):
            if one := getattr(self, name):
                told[name] |= {"shares": one.shares}
        return told


def memorization(
    drawn: UInt8[np.ndarray, "drawn side side"],
    train: UInt8[np.ndarray, "train _ _"],
    held_out: UInt8[np.ndarray, "held_out _ _"],
    *,
    train_patients: Sequence[str],
    held_out_patients: Sequence[str],
    drawn_sources: Sequence[str] | None = None,
    seed: int = 0,
) -> Memorization:
    """Look for training images among drawn ones.

    Memory is bounded: stores may be memory-mapped. The larger of train and held-out is cut to the size of the other in
    patients, and then in images, where `closer` asks for equal sets.

    Args:
        drawn: images; for the question about one finding, those drawn for it.
        train: images that the generator learned from, of the same finding.
        held_out: images of other patients, of the same finding.
        train_patients: of each training image.
        held_out_patients: of each held-out image.
        drawn_sources: patient whose label set each drawn image was made of; counted only.
        seed: of the choice of the equal sets and of the real images that are asked.

    Raises:
        DataError: there is nothing to compare, sizes differ, or a patient is in train and in held-out.
    """
    patient, held_out_patient = _numbers(drawn, train, held_out, train_patients, held_out_patients)
    equal, held_out_equal = _equal_sets(patient, held_out_patient, seed)
    train_asked, held_out_asked = _asked(patient, seed, "train"), _asked(held_out_patient, seed, "held-out")
    nobody = np.full(len(drawn), -1)
    queries = {
        "drawn": (np.asarray(drawn), nobody),
        "held_out": (held_out[held_out_asked], held_out_patient[held_out_asked]),
        "train": (train[train_asked], patient[train_asked]),
    }
    near, best = {}, {}
    for name, one in queries.items():
        best[name], equal_train = _nearest(*one, train, patient, equal)
        there, equal_other = _nearest(*one, held_out, held_out_patient, held_out_equal)
        near[name] = Nearness(best[name].similarity, there.similarity, equal_train, equal_other)

    n = {
        "drawn": {"images": len(drawn), "patients": len(set(drawn_sources or ()))},
        "train": _count(patient),
        "held_out": _count(held_out_patient),
        "compared": _count(patient[equal]),
        "asked": {"held_out": len(held_out_asked), "train": len(train_asked)},
    }
    limit = real_copies = None
    copied = np.zeros(len(drawn), bool)
    if n["held_out"]["patients"] >= LEAST:
        limit = limit_of_copies(near["held_out"])
        copied, real_copies = listed(near["drawn"], limit), int(listed(near["held_out"], limit).sum())
    shown = np.argsort(-best["drawn"].similarity, kind="stable")[:SHOWN]
    found: dict[str, Any] = {
        "copies": _pairs(np.flatnonzero(copied), best["drawn"], drawn, train),
        "held_out_copies": real_copies,
        "limit": limit,
        "pairs": _pairs(shown, best["drawn"], drawn, train),
        "n": n,
    }
    if why := _untested(n):
        return Memorization(None, None, why, None, None, detectable=None, **found)
    closer, much, p = closeness(near)
    return Memorization(p < LEVEL, p, None, closer, much, detectable=_detectable(len(drawn), much), **found)


def closeness(near: Mapping[str, Nearness]) -> tuple[Closeness, Closeness, float]:
    """Ask both questions.

    Args:
        near: of images that are `drawn`, `held_out` and `train`; real images are not compared with their own patient.

    Returns:
        What was found for `closer` and `much_closer`, and the p of both together.
    """
    closer = _closeness({name: one.equal_train > one.equal_held_out for name, one in near.items()})
    ratio = {name: (1 - one.train) / np.maximum(1 - one.held_out, 1e-6) for name, one in near.items()}
    bound = np.sort(ratio["held_out"])[int(_RARE * len(ratio["held_out"]))]
    much = _closeness({name: one < bound for name, one in ratio.items()})
    return closer, much, min(1.0, 2 * min(max(one.p, one.p_train) for one in (closer, much)))


def limit_of_copies(held_out: Nearness) -> float:
    """The similarity that one of 1,000 held-out images would reach.

    A Gumbel law of maxima is fitted on the scale on which a correlation has no bound.
    """
    low, middle, high = np.quantile(np.arctanh(held_out.train.clip(-0.999999, 0.999999)), (0.25, 0.5, 0.75))

    def reduced(level: float) -> float:
        return float(-np.log(-np.log(level)))

    spread = (high - low) / (reduced(0.75) - reduced(0.25))
    return min(_CERTAIN, float(np.tanh(middle + spread * (reduced(_COPY) - reduced(0.5)))))


def listed(near: Nearness, limit: float) -> Bool[np.ndarray, " images"]:
    """Which images are copies: beyond the limit, and nearer to train than to any held-out image."""
    return (near.train > limit) & (near.train > near.held_out)


def _numbers(
    drawn: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray,
    train_patients: Sequence[str],
    held_out_patients: Sequence[str],
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " held_out"]]:
    """The patients' numbers, train's first."""
    for name, images, patients in (("train", train, train_patients), ("held-out", held_out, held_out_patients)):
        if len(images) != len(patients):
            raise DataError(f"memorization: {len(images)} {name} images have {len(patients)} patients; give one each.")
        if not len(images):
            raise DataError(f"memorization: there is no {name} image to compare with.")
        if images.shape[1:] != drawn.shape[1:]:
            raise DataError(
                f"memorization: drawn images are {drawn.shape[1:]}, {name} images {images.shape[1:]}; resize first."
            )
    if both := sorted(set(train_patients) & set(held_out_patients)):
        raise DataError(f"memorization: {len(both)} patients are in train and in held-out. Split by patient.")
    names = np.concatenate([np.asarray(train_patients, str), np.asarray(held_out_patients, str)])
    number = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return number[: len(train)], number[len(train) :]


def _equal_sets(
    one: Int[np.ndarray, " one"], other: Int[np.ndarray, " other"], seed: int
) -> tuple[Bool[np.ndarray, " one"], Bool[np.ndarray, " other"]]:
    """As many patients of each and, of these, as many images, at least one of each."""
    count = min(len(np.unique(one)), len(np.unique(other)))
    chosen = []
    for name, patient in (("train", one), ("held-out", other)):
        draw = generator(seed, "equal sets", name)
        who = draw.choice(np.unique(patient), count, replace=False)
        rows = draw.permutation(np.flatnonzero(np.isin(patient, who)))
        first = np.zeros(len(rows), bool)
        first[np.unique(patient[rows], return_index=True)[1]] = True
        chosen.append(np.concatenate([rows[first], rows[~first]]))
    images = min(map(len, chosen))
    masks = np.zeros(len(one), bool), np.zeros(len(other), bool)
    for mask, rows in zip(masks, chosen, strict=True):
        mask[rows[:images]] = True
    return masks


def _asked(patient: Int[np.ndarray, " images"], seed: int, name: str) -> Int[np.ndarray, " asked"]:
    """One image of each of at most 300 patients: images of one patient have the same neighbors."""
    rows = generator(seed, "asked", name).permutation(len(patient))
    return rows[np.sort(np.unique(patient[rows], return_index=True)[1])][:_QUERIES]


def _nearest(
    query: np.ndarray,
    query_patient: Int[np.ndarray, " queries"],
    store: np.ndarray,
    patient: Int[np.ndarray, " images"],
    equal: Bool[np.ndarray, " images"],
) -> tuple[Matches, Float[np.ndarray, " queries"]]:
    """The best match among all images of other patients, and the similarity of the best within the equal set."""
    parts = [
        best_matches(query, store, rows, (query_patient, patient[rows]))
        for rows in (np.flatnonzero(equal), np.flatnonzero(~equal))
    ]
    inside, outside = parts
    nearer = outside.similarity > inside.similarity
    best = [np.where(nearer if a.ndim == 1 else nearer[:, None], b, a) for a, b in zip(*parts, strict=True)]
    return Matches(*best), inside.similarity


def _closeness(yes: Mapping[str, Bool[np.ndarray, " queries"]]) -> Closeness:
    table = {name: (int(one.sum()), int((~one).sum())) for name, one in yes.items()}
    p = [_p(table["drawn"], table[name]) for name in ("held_out", "train")]
    return Closeness(**table, p=p[0], p_train=p[1])


def _p(drawn: tuple[int, int], real: tuple[int, int]) -> float:
    return float(fisher_exact([drawn, real], alternative="greater").pvalue)


def _detectable(drawn: int, much: Closeness) -> float | None:
    """By the second question, with as many false ones as in the null."""
    nulls = much.held_out, much.train
    false = max(yes / (yes + no) for yes, no in nulls)
    for copies in range(1, drawn + 1):
        yes = copies + round((drawn - copies) * false)
        if 2 * max(_p((yes, drawn - yes), one) for one in nulls) < LEVEL:
            return copies / drawn
    return None


def _untested(n: dict[str, dict[str, int]]) -> str | None:
    for name, kind in (("drawn", "images"), ("train", "patients"), ("held_out", "patients")):
        if n[name][kind] < LEAST:
            return f"only {n[name][kind]} {kind} in {name.replace('_', '-')}: {LEAST} are needed"
    return None


def _count(patient: Int[np.ndarray, " images"]) -> dict[str, int]:
    return {"images": len(patient), "patients": len(np.unique(patient))}


def _pairs(rows: Int[np.ndarray, " rows"], best: Matches, drawn: np.ndarray, train: np.ndarray) -> tuple[Pair, ...]:
    found = []
    for row in rows.tolist():
        original = int(best.row[row])
        change = _change(drawn[row], train[original], bool(best.mirrored[row]), best.margins[row])
        found.append(Pair(row, original, float(best.similarity[row]), change))
    return tuple(found)


def _change(drawn: np.ndarray, original: np.ndarray, mirrored: bool, margins: Float[np.ndarray, " 4"]) -> str:
    words = ["mirrored"] if mirrored else []
    crop = max(margins[:2].sum(), margins[2:].sum())
    if crop > _CROP:
        words.append(f"cropped by {crop:.0%}")
    low, high = np.round(margins[::2] * len(original)).astype(int), np.round(margins[1::2] * len(original)).astype(int)
    window = original[low[0] : len(original) - high[0], low[1] : len(original) - high[1]]
    gain = float(drawn.mean() / max(window.mean(), 1.0)) - 1
    if abs(gain) > _BRIGHTNESS:
        words.append(f"{abs(gain):.0%} {'brighter' if gain > 0 else 'darker'}")
    return ", ".join(words) or "as it is"
