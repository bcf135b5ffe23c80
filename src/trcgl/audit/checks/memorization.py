"""Memorization: does the generator repeat training images? Lists single memorized copies, and tests the whole set.

Two questions are asked about every synthetic image, and about real held-out images, which cannot be copies:

- *closer*: is its nearest neighbor in train closer than in an equally large set of held-out patients?
- *much closer*: is it closer to train than to held-out by more than 99 of 100 held-out images are, as measured by
  (1 − similarity to train) / (1 − similarity to held-out)?

The first detects a set that leans towards train as a whole, the second a few copies. Both use Fisher's exact test,
one-sided, against held-out images and, because train and held-out may differ in kind, against training images compared
with other patients. The larger p of the two comparisons counts, and the smaller p of the two questions, doubled.

Similarity is the best correlation of details over mirroring and crops of up to 5 % (`registration`). A synthetic image
is listed as a memorized copy if it is more similar to a training image than 999 of 1,000 held-out images would be: the
99.9 % quantile of a Gumbel law through the quartiles of their similarities, so that a patient who is in both sets under
two names does not shift it.

An image of image-to-image synthesis is compared with the training images of other patients than that of its pixel
source, and with its pixel source apart (`source_similarity`).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.stats import fisher_exact, gumbel_r

from trcgl.audit.check import Check, Evidence, Verdict
from trcgl.audit.registration import Matches, best_matches
from trcgl.audit.sample_plan import WITH
from trcgl.audit.source_similarity import repeat_similarity, source_similarity
from trcgl.core.errors import DataError
from trcgl.core.randomness import generator

LEVEL = 0.01
LEAST = 20  # fewest patients in train and held-out, and fewest synthetic images, of a test
SHOWN = 20  # most similar pairs that are reported

Owners = Int[np.ndarray, " _"]
_NEEDED = (("synthetic", "images"), ("train", "patients"), ("held_out", "patients"))
_QUERIES = 300  # real images that are compared, one per patient
_RARE = 0.01  # of held-out images are much closer to train
_COPY = 0.999  # quantile of the similarity of other patients' images
_CERTAIN = 0.999  # similarity of a certain copy, also if real images repeat each other
_CROP, _BRIGHTNESS = 0.01, 0.02  # smaller changes are not described


class Nearness(NamedTuple):
    """Similarity of images to the nearest of train and of held-out, and of equally large subsets of both."""

    train: Float[np.ndarray, " images"]
    held_out: Float[np.ndarray, " images"]
    equal_train: Float[np.ndarray, " images"]
    equal_held_out: Float[np.ndarray, " images"]


@dataclass(frozen=True)
class Pair:
    """A synthetic image and the training image that it resembles most."""

    synthetic: int  # row of the synthetic image
    train: int  # row of the training image
    similarity: float  # correlation of details, at most 1
    change: str  # description of the change from the training image to the synthetic one if it is a copy


@dataclass(frozen=True)
class Closeness:
    """Numbers of images that are closer to train: the tables of Fisher's test."""

    synthetic: tuple[int, int]  # number of synthetic images that are closer, and that are not
    held_out: tuple[int, int]  # the same for held-out images, the null
    train: tuple[int, int]  # the same for training images, compared with other patients
    p: float  # one-sided p-value of synthetic against held-out images
    p_train: float  # one-sided p-value of synthetic against training images
    shares: dict[str, float]  # share of the images that are closer to train, by set


@dataclass(frozen=True)
class Memorization:
    """Result of the check."""

    flagged: bool | None  # whether p < .01; None if not tested
    p: float | None  # p-value of both questions together; None if not tested
    why: str | None  # reason why it was not tested
    closer: Closeness | None  # images closer to train than to equally many held-out images
    much_closer: Closeness | None  # images closer to train by more than 99 of 100 held-out images are
    copies: tuple[Pair, ...]  # synthetic images listed as memorized copies, by row
    held_out_copies: int | None  # number of compared held-out images that would be listed
    limit: float | None  # smallest similarity of a copy; None if there are too few held-out images
    pairs: tuple[Pair, ...]  # the 20 most similar pairs, most similar first
    # smallest share of copies among as many synthetic images that would be flagged; None if none would
    detectable: float | None
    # images and patients of each set; `compared` is the size of the equal sets, `asked` the number of real
    # images compared with both
    n: dict[str, dict[str, int]]


def memorization(
    synthetic: UInt8[np.ndarray, "synthetic side side"],
    train: UInt8[np.ndarray, "train _ _"],
    held_out: UInt8[np.ndarray, "held_out _ _"],
    *,
    train_patients: Sequence[str],
    held_out_patients: Sequence[str],
    source_patients: Sequence[str] | None = None,
    pixel_patients: Sequence[str] | None = None,
    seed: int = 0,
) -> Memorization:
    """Look for training images among synthetic ones, all with the same finding; held-out images are of other patients.

    Memory is bounded: stores may be memory-mapped. For `closer`, the larger of train and held-out is reduced to as many
    patients, and then to as many images, as the other. Source patients of synthetic images are only counted. Images of
    `pixel_patients`, the patients of the pixel sources of image-to-image synthesis, are not compared.
    """
    real = {"train": (train, train_patients), "held-out": (held_out, held_out_patients)}
    patient, held_out_patient = _numbers(synthetic, real)
    equal, held_out_equal = _equal_sets(patient, held_out_patient, seed)
    train_asked, held_out_asked = _asked(patient, seed, "train"), _asked(held_out_patient, seed, "held-out")
    number_of = dict(zip(train_patients, patient.tolist(), strict=True))
    apart = [number_of.get(name, -1) for name in pixel_patients or [""] * len(synthetic)]
    queries = {
        "synthetic": (np.asarray(synthetic), np.array(apart, dtype=np.int64)),
        "held_out": (held_out[held_out_asked], held_out_patient[held_out_asked]),
        "train": (train[train_asked], patient[train_asked]),
    }
    near, best = {}, {}
    for name, query in queries.items():
        best[name], equal_train = _nearest(query, (train, patient), equal)
        there, equal_other = _nearest(query, (held_out, held_out_patient), held_out_equal)
        near[name] = Nearness(best[name].similarity, there.similarity, equal_train, equal_other)
    n = {"synthetic": {"images": len(synthetic), "patients": len(set(source_patients or ()))}}
    for name, owners in (("train", patient), ("held_out", held_out_patient), ("compared", patient[equal])):
        n[name] = {"images": len(owners), "patients": len(np.unique(owners))}
    n["asked"] = {"held_out": len(held_out_asked), "train": len(train_asked)}
    limit = real_copies = closer = much = p = detectable = None
    copied = np.zeros(len(synthetic), bool)
    if n["held_out"]["patients"] >= LEAST:
        limit = limit_of_copies(near["held_out"])
        copied, real_copies = listed(near["synthetic"], limit), int(listed(near["held_out"], limit).sum())
    needed = ((name, kind, n[name][kind]) for name, kind in _NEEDED if n[name][kind] < LEAST)
    why = next(
        (f"only {count} {kind} in {name.replace('_', '-')}: {LEAST} are needed" for name, kind, count in needed), None
    )
    if not why:
        closer, much, p = closeness(near)
        detectable = _detectable(len(synthetic), much)
    copies, pairs = (
        _pairs(rows, best["synthetic"], synthetic, train)
        for rows in (np.flatnonzero(copied), np.argsort(-best["synthetic"].similarity, kind="stable")[:SHOWN])
    )
    flagged = None if p is None else p < LEVEL
    return Memorization(flagged, p, why, closer, much, copies, real_copies, limit, pairs, detectable, n)


def closeness(near: Mapping[str, Nearness]) -> tuple[Closeness, Closeness, float]:
    """The tables of `closer` and `much_closer`, and the p-value of both together, from the similarities of each set."""
    closer = _closeness({name: some.equal_train > some.equal_held_out for name, some in near.items()})
    ratio = {name: (1 - some.train) / np.maximum(1 - some.held_out, 1e-6) for name, some in near.items()}
    bound = np.sort(ratio["held_out"])[int(_RARE * len(ratio["held_out"]))]
    much = _closeness({name: values < bound for name, values in ratio.items()})
    return closer, much, min(1.0, 2 * min(max(table.p, table.p_train) for table in (closer, much)))


def limit_of_copies(held_out: Nearness) -> float:
    """The similarity that 1 of 1,000 held-out images would reach.

    A Gumbel law of maxima is fitted on the scale on which a correlation has no bound.
    """
    low, middle, high = np.quantile(np.arctanh(held_out.train.clip(-0.999999, 0.999999)), (0.25, 0.5, 0.75))
    low_place, middle_place, high_place, copy_place = gumbel_r.ppf((0.25, 0.5, 0.75, _COPY))
    spread = (high - low) / (high_place - low_place)
    return min(_CERTAIN, float(np.tanh(middle + spread * (copy_place - middle_place))))


def listed(near: Nearness, limit: float) -> Bool[np.ndarray, " images"]:
    """Whether each image is a copy: its similarity is above the limit, and higher to train than to held-out images."""
    return (near.train > limit) & (near.train > near.held_out)


def _numbers(
    synthetic: np.ndarray, real: Mapping[str, tuple[np.ndarray, Sequence[str]]]
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " held_out"]]:
    """Number of the patient of each training and each held-out image, from the images and patients of both."""
    for name, (images, patients) in real.items():
        if len(images) != len(patients):
            raise DataError(f"memorization: {len(images)} {name} images have {len(patients)} patients; give one each.")
        if not len(images):
            raise DataError(f"memorization: there is no {name} image to compare with.")
        if images.shape[1:] != synthetic.shape[1:]:
            raise DataError(
                f"memorization: synthetic images are {synthetic.shape[1:]}, {name} images {images.shape[1:]}; "
                "resize them first."
            )
    (_, train_patients), (_, held_out_patients) = real.values()
    if both := sorted(set(train_patients) & set(held_out_patients)):
        raise DataError(f"memorization: {len(both)} patients are in train and in held-out. Split by patient.")
    names = np.concatenate([np.asarray(train_patients, str), np.asarray(held_out_patients, str)])
    number = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return number[: len(train_patients)], number[len(train_patients) :]


def _equal_sets(
    train: Int[np.ndarray, " train"], held_out: Int[np.ndarray, " held_out"], seed: int
) -> tuple[Bool[np.ndarray, " train"], Bool[np.ndarray, " held_out"]]:
    """Random subsets of train and held-out with equal numbers of patients and of images, at least one per patient."""
    count = min(len(np.unique(train)), len(np.unique(held_out)))
    chosen = []
    for name, patient in (("train", train), ("held-out", held_out)):
        rng = generator(seed, "equal sets", name)
        who = rng.choice(np.unique(patient), count, replace=False)
        rows = rng.permutation(np.flatnonzero(np.isin(patient, who)))
        first = np.sort(np.unique(patient[rows], return_index=True)[1])
        chosen.append(np.concatenate([rows[first], np.delete(rows, first)]))
    images = min(map(len, chosen))
    in_train, in_held_out = (
        np.isin(np.arange(len(patient)), rows[:images]) for patient, rows in zip((train, held_out), chosen, strict=True)
    )
    return in_train, in_held_out


def _asked(patient: Int[np.ndarray, " images"], seed: int, name: str) -> Int[np.ndarray, " asked"]:
    """One image each of at most 300 patients: images of one patient have the same neighbors."""
    rows = generator(seed, "asked", name).permutation(len(patient))
    return rows[np.sort(np.unique(patient[rows], return_index=True)[1])][:_QUERIES]


def _nearest(
    query: tuple[np.ndarray, Owners], store: tuple[np.ndarray, Owners], equal: Bool[np.ndarray, " images"]
) -> tuple[Matches, Float[np.ndarray, " queries"]]:
    """The best match among all images of other patients, and the similarity of the best within the equal set.

    `query` and `store` are images and the numbers of their patients.
    """
    inside, outside = (
        best_matches(query[0], store[0], rows, (query[1], store[1][rows]))
        for rows in (np.flatnonzero(equal), np.flatnonzero(~equal))
    )
    nearer = outside.similarity > inside.similarity
    best = (np.where(nearer if a.ndim == 1 else nearer[:, None], b, a) for a, b in zip(inside, outside, strict=True))
    return Matches(*best), inside.similarity


def _closeness(yes: Mapping[str, Bool[np.ndarray, " queries"]]) -> Closeness:
    table = {name: (int(found.sum()), int((~found).sum())) for name, found in yes.items()}
    p, p_train = (_p(table["synthetic"], table[name]) for name in ("held_out", "train"))
    return Closeness(**table, p=p, p_train=p_train, shares={name: float(found.mean()) for name, found in yes.items()})


def _p(synthetic: tuple[int, int], real: tuple[int, int]) -> float:
    return float(fisher_exact([synthetic, real], alternative="greater").pvalue)


def _detectable(images: int, much: Closeness) -> float | None:
    """Smallest share of copies that `much closer` would flag, with as many false positives as in the null."""
    false = max(much.shares["held_out"], much.shares["train"])
    for copies in range(1, images + 1):
        yes = copies + round((images - copies) * false)
        if 2 * max(_p((yes, images - yes), null) for null in (much.held_out, much.train)) < LEVEL:
            return copies / images
    return None


def _pairs(rows: Int[np.ndarray, " rows"], best: Matches, synthetic: np.ndarray, train: np.ndarray) -> tuple[Pair, ...]:
    pairs = []
    for row, original in zip(rows.tolist(), best.row[rows].tolist(), strict=True):
        change = _change(synthetic[row], train[original], bool(best.mirrored[row]), best.margins[row])
        pairs.append(Pair(row, original, float(best.similarity[row]), change))
    return tuple(pairs)


def _change(synthetic: np.ndarray, original: np.ndarray, mirrored: bool, margins: Float[np.ndarray, " 4"]) -> str:
    changes = ["mirrored"] if mirrored else []
    crop = max(margins[:2].sum(), margins[2:].sum())
    if crop > _CROP:
        changes.append(f"cropped by {crop:.0%}")
    low, high = np.round(margins[::2] * len(original)).astype(int), np.round(margins[1::2] * len(original)).astype(int)
    window = original[low[0] : len(original) - high[0], low[1] : len(original) - high[1]]
    gain = float(synthetic.mean() / max(window.mean(), 1.0)) - 1
    if abs(gain) > _BRIGHTNESS:
        changes.append(f"{abs(gain):.0%} {'brighter' if gain > 0 else 'darker'}")
    return ", ".join(changes) or "unchanged"


def among(evidence: Evidence, findings: Sequence[str]) -> dict[str, Any]:
    """Look for copies among the synthetic images of some findings; training images have at least one of them."""
    images, sheet = evidence.images, evidence.images.sheets[WITH]

    def any_of(rows_of: Callable[[str], np.ndarray]) -> np.ndarray:
        return np.unique(np.concatenate([rows_of(finding) for finding in findings]))

    synthetic = any_of(sheet.rows_of)
    train = any_of(lambda finding: images.positives(images.train, finding))
    held_out = any_of(lambda finding: images.positives(images.held_out, finding))
    if not len(held_out):
        nothing: dict[str, Any] = dict.fromkeys(("flagged", "p", "closer", "much_closer", "held_out_copies", "limit"))
        n = {"synthetic": {"images": len(synthetic)}, "asked": {"held_out": 0}}
        why = "no held-out image has it"
        return {
            **nothing,
            "why": why,
            "copies": [],
            "pairs": [],
            "detectable": None,
            "n": n,
            **_of_sources(evidence, synthetic),
        }
    result = memorization(
        sheet.images[synthetic],
        images.pixels(images.train, train),
        images.pixels(images.held_out, held_out),
        train_patients=images.train.patients(train),
        held_out_patients=images.held_out.patients(held_out),
        source_patients=sheet.patients(synthetic),
        pixel_patients=sheet.rows["pixel_source_patient"].gather(synthetic).to_list() if sheet.from_real else None,
        seed=evidence.seed,
    )
    found = dataclasses.asdict(result) | _of_sources(evidence, synthetic)
    for pair in (*found["pairs"], *found["copies"]):
        pair["train"] = int(train[pair["train"]])  # a row of train, not of the images compared
    return found


def _of_sources(evidence: Evidence, synthetic: Int[np.ndarray, " rows"]) -> dict[str, Any]:
    """The entry `source` of the result: similarity to the pixel sources; None for images from noise."""
    images, sheet = evidence.images, evidence.images.sheets[WITH]
    if not sheet.from_real:
        return {"source": None}
    place_of = {image: place for place, image in enumerate(images.train.rows["image_id"])}
    sources = np.array([place_of[image] for image in sheet.rows["pixel_source_image"].gather(synthetic)])
    stored = images.inputs.dataset.require_images()
    repeats = repeat_similarity(stored, images.train.store, images.train.patients(), evidence.seed)
    found = source_similarity(sheet.images[synthetic], images.pixels(images.train, sources), repeats)
    return {"source": dataclasses.asdict(found)}


def _verdict(result: dict[str, Any], so_far: Verdict) -> Verdict:
    if result["flagged"]:
        so_far = so_far.but("Copies: synthetic images are nearer to training images than held-out images are.")
    if (result.get("source") or {}).get("flagged"):
        so_far = so_far.but(
            "Copies: synthetic images are nearer to the real images that they started from than images of the same "
            "patient are to each other. Generate with a higher --strength."
        )
    return so_far


CHECK = Check(
    key="memorization",
    order=50,
    title="Memorized copies",
    null="held-out images, which cannot be copies",
    of_finding=lambda evidence, finding: among(evidence, (finding,)),
    of_all=lambda evidence: among(evidence, evidence.images.findings),
    verdict=_verdict,
)
