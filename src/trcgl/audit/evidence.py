"""All checks of one finding, and those of all images together, as plain JSON values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from trcgl.audit.checks.ceiling import Ceiling
from trcgl.audit.checks.diversity import Sample, diversity
from trcgl.audit.checks.fidelity import KERNELS, compare_with_real, overall
from trcgl.audit.checks.label_fidelity import EASY, PASS, deranged, discrimination, of_synthetic, rate, verdict
from trcgl.audit.checks.memorization import memorization
from trcgl.audit.checks.real_or_synthetic import real_or_drawn
from trcgl.audit.checks.shortcut import Normals, shortcut
from trcgl.audit.checks.structure import STRUCTURES, structure_checks
from trcgl.audit.features import FeatureSpace
from trcgl.audit.sample_plan import NORMALS, WITH, WITHOUT
from trcgl.audit.scored_images import Material, Real
from trcgl.core.errors import DataError
from trcgl.core.randomness import generator as randomness

ASSESSABLE, INDICATIVE, TOO_FEW = "assessable", "indicative", "not assessable"
NOT_DRAWABLE = "not drawable"
_REAL, _DRAWN, _FEW_REAL = 50, 200, 20
_NULL_AUROC = 0.6  # a null above it is said beside the verdict
_HALF = 0.5
_MOST = 2000  # real images of one kind that are compared: distances cost the square


@dataclass(frozen=True)
class Described:
    """Features in one space of what the checks compare.

    Args:
        drawn: of the sheet `with`.
        train: of some training rows that the auditor did not learn from.
        train_rows: which of these, rising.
        held_out: of some held-out rows.
        held_out_rows: which, rising.
    """

    drawn: Float[np.ndarray, "rows features"]
    train: Float[np.ndarray, "rows_train features"]
    train_rows: Int[np.ndarray, " rows_train"]
    held_out: Float[np.ndarray, "rows_held features"]
    held_out_rows: Int[np.ndarray, " rows_held"]

    def of_train(self, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows features"]:
        """Of training rows that were described."""
        return self.train[np.searchsorted(self.train_rows, rows)]

    def of_held_out(self, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows features"]:
        """Of held-out rows that were described."""
        return self.held_out[np.searchsorted(self.held_out_rows, rows)]


def describe(material: Material, space: FeatureSpace, seed: int) -> Described:
    """Features of the drawn images and of the real ones with any audited finding."""
    rows = [
        np.unique(np.concatenate([_compared(material, real, one, seed) for one in material.findings]))
        for real in (material.unseen, material.held_out)
    ]
    train, held_out = (
        space(np.asarray(material.store[real.store[chosen]]))
        for real, chosen in zip((material.unseen, material.held_out), rows, strict=True)
    )
    return Described(space(material.images[WITH]), train, rows[0], held_out, rows[1])


def status(real: int, drawn: int) -> tuple[str, str]:
    """How much the numbers of a finding can bear, and why, from its images."""
    numbers = f"{real} held-out real images with it and {drawn} drawn"
    if real >= _REAL and drawn >= _DRAWN:
        return ASSESSABLE, numbers
    if real >= _FEW_REAL:
        return INDICATIVE, f"{numbers}; {_REAL} and {_DRAWN} are needed for more than an indication"
    return TOO_FEW, f"{numbers}; {_FEW_REAL} real ones are needed for an indication"


def judge_finding(
    material: Material, finding: str, ceiling: Ceiling, described: Mapping[str, Described], seed: int
) -> dict[str, Any]:
    """Every check of one finding."""
    drawn = material.drawn(finding)
    train, held_out = (material.positives(one, finding) for one in (material.train, material.held_out))
    sources = material.sources(drawn)
    word, why = status(len(held_out), len(drawn))
    fidelity, told_apart = {}, {}
    some_train, some_held = (_compared(material, one, finding, seed) for one in (material.unseen, material.held_out))
    patients: dict[str, Any] = {
        "drawn_sources": sources,
        "held_out_patients": _patients(material.held_out, some_held),
        "train_patients": _patients(material.unseen, some_train),
    }
    for name, features in described.items():
        sides = features.drawn[drawn], features.of_held_out(some_held), features.of_train(some_train)
        fidelity[name] = {
            kernel: compare_with_real(*sides, **patients, kernel=kernel, seed=seed).to_dict() for kernel in KERNELS
        }
        told_apart[name] = real_or_drawn(*sides, **patients, seed=seed).to_dict()
    space = next(iter(described.values()))
    told = {
        "group": material.space.groups.get(finding),
        "status": word,
        "status_why": why,
        "counts": {
            "drawn": len(drawn),
            "source_patients": len(set(sources)),
            "screened": sum(material.verdict[row] is not None for row in drawn),
            "kept": len(material.kept(drawn)),
            "held_out": len(held_out),
            "held_out_patients": len(set(_patients(material.held_out, held_out))),
            "train": len(train),
            "train_patients": len(set(_patients(material.train, train))),
        },
        "label_fidelity": label_fidelity(material, finding, seed),
        "ceiling": ceiling.to_dict(),
        "fidelity": fidelity,
        "real_or_drawn": told_apart,
        "memorization": memorized(material, (finding,), seed),
        "diversity": varied(
            material, finding, Sample(material.images[WITH][drawn], space.drawn[drawn], sources), space, seed
        ),
        "structure": structure(material, finding, seed),
    }
    return {**told, "verdict": conclusion(told)}


def label_fidelity(material: Material, finding: str, seed: int) -> dict[str, Any]:
    """Drawn images of one finding, all and kept alone, beside real ones, and the null; with the verdict."""
    column, threshold = material.space.index(finding), (material.inputs.auditor.thresholds or {})[finding]
    rows = material.drawn(finding)
    kept = material.kept(rows)
    measured = {}
    for name, chosen in (("drawn", rows), ("kept", kept)):  # row by row, `without` holds their counterparts
        measured[name] = of_synthetic(
            material.scores[WITH][chosen, column],
            material.scores[WITHOUT][chosen, column],
            (material.sources(chosen), material.sources(chosen, WITHOUT)),
            threshold,
            seed=seed,
        )
    real = discrimination(
        material.held_out.truth[:, column],
        material.held_out_score[:, column],
        material.held_out.patients,
        threshold,
        material.held_out.weight,
        seed=seed,
    )
    pairs = material.pairs()
    null = deranged(
        finding,
        column,
        pairs.with_it,
        pairs.without,
        pairs.rows["target"].to_list(),
        pairs.rows["findings"].to_list(),
        pairs.rows["patient_id"].to_list(),
        seed=seed,
    )
    return {
        "threshold": threshold,
        **{name: one.to_dict() for name, one in measured.items()},
        "real": real.to_dict(),
        "deranged": {**null.to_dict(), "highest": null.highest},
        "verdict": verdict(measured["drawn"], real).to_dict(),
        "verdict_of_kept": verdict(measured["kept"], real).to_dict() if len(kept) else None,
    }


def _compared(material: Material, real: Real, finding: str, seed: int) -> Int[np.ndarray, " rows"]:
    """Rows with a finding that are compared: all, or a sample of very many."""
    rows = material.positives(real, finding)
    return np.sort(randomness(seed, "compared", finding).permutation(rows)[:_MOST])


def _patients(real: Real, rows: Int[np.ndarray, " rows"]) -> list[str]:
    return real.rows["patient_id"].gather(rows).to_list()


def varied(
    material: Material,
    finding: str,
    drawn: Sample,
    described: Described,
    seed: int,
    **how: Any,
) -> dict[str, Any]:
    """How much images of one finding differ from each other, beside real ones of the finding."""
    real = []
    for side, features in (
        (material.held_out, described.of_held_out),
        (material.unseen, described.of_train),
    ):
        rows = _compared(material, side, finding, seed)
        real.append(Sample(np.asarray(material.store[side.store[rows]]), features(rows), _patients(side, rows)))
    return diversity(drawn, *real, seed=seed, **how).to_dict()


def memorized(material: Material, findings: Sequence[str], seed: int) -> dict[str, Any]:
    """Copies among the images of some findings, looked for among the training images that have one of them."""
    drawn, train, held_out = (
        np.unique(np.concatenate([rows(one) for one in findings]))
        for rows in (
            material.drawn,
            lambda one: material.positives(material.train, one),
            lambda one: material.positives(material.held_out, one),
        )
    )
    if not len(held_out):
        why = "no held-out image has it"
        nothing: dict[str, Any] = dict.fromkeys(("flagged", "p", "closer", "much_closer", "held_out_copies", "limit"))
        n = {"drawn": {"images": len(drawn)}, "asked": {"held_out": 0}}
        return {**nothing, "why": why, "copies": [], "pairs": [], "detectable": None, "n": n}
    found = memorization(
        material.images[WITH][drawn],
        np.asarray(material.store[material.train.store[train]]),
        np.asarray(material.store[material.held_out.store[held_out]]),
        train_patients=_patients(material.train, train),
        held_out_patients=_patients(material.held_out, held_out),
        drawn_sources=material.sources(drawn),
        seed=seed,
    ).to_dict()
    for pair in (*found["pairs"], *found["copies"]):
        pair["train"] = int(train[pair["train"]])  # a row of train, not of the images that were compared
    return found


def probe(material: Material, seed: int) -> dict[str, Any] | None:
    """Whether drawn normal radiographs look rare; None where there is no normal label."""
    if NORMALS not in material.sheets:
        return None
    columns = [material.space.index(one) for one in material.findings]
    held_out, train = (material.normals(one) for one in (material.held_out, material.unseen))
    train = np.sort(randomness(seed, "normals").permutation(train)[:_MOST])
    patients = _patients(material.held_out, held_out)
    score = material.score(material.store, material.unseen.store[train])[:, columns]
    thresholds = material.inputs.auditor.thresholds or {}
    return shortcut(
        Normals(material.scores[NORMALS][:, columns], material.sheets[NORMALS].rows["patient_id"].to_list()),
        Normals(material.held_out_score[held_out][:, columns], patients),
        Normals(score, _patients(material.unseen, train)),
        Normals(material.returned_score[held_out][:, columns], patients),
        findings=material.findings,
        thresholds=thresholds,
        seed=seed,
    ).to_dict()


def structure(material: Material, finding: str, seed: int) -> dict[str, Any] | None:
    """Shares of images whose finding is built as the drawing program builds it; None where nobody knows the truth.

    Real phantoms with and without the finding are the null: a check that they do not pass, or that images without the
    finding pass too, says nothing.
    """
    if material.inputs.dataset.info["source"] != "phantom" or finding not in STRUCTURES:
        return None
    real = material.held_out
    rows, others = material.drawn(finding), material.drawn(finding, WITHOUT)
    truth = real.truth[:, material.space.index(finding)]
    having, absent = (  # as many: estimating a thorax takes a tenth of a second
        np.sort(randomness(seed, "structure", finding, known).permutation(np.flatnonzero(truth == known))[: len(rows)])
        for known in (1, 0)
    )
    looked_at = {
        "drawn": (material.images[WITH][rows], material.sources(rows)),
        "drawn_without": (material.images[WITHOUT][others], material.sources(others, WITHOUT)),
        "real": (material.store[real.store[having]], _patients(real, having)),
        "real_without": (material.store[real.store[absent]], _patients(real, absent)),
    }
    found: dict[str, Any] = {}
    for name, (images, patients) in looked_at.items():
        try:
            checked = structure_checks(np.asarray(images), finding)
        except DataError as error:  # too small to see it
            return {"why": str(error)}
        found[name] = {**rate(checked.holds, np.array(patients), seed=seed), "images": len(images)}
        if name == "drawn":
            found["failed"] = dict(Counter(one for one in checked.why if one).most_common())
    return found


def conclusion(told: dict[str, Any]) -> dict[str, Any]:
    """The verdict of a finding in a word and a sentence, and what a reader has to know beside it."""
    label, ceiling = told["label_fidelity"], told["ceiling"]
    word, why = label["verdict"]["word"], label["verdict"]["why"]
    if ceiling["drawable"] is False:
        word, why = NOT_DRAWABLE, f"with this base: {ceiling['why']}"
    cautions = []
    null = label["deranged"]
    if not null["across"]:
        cautions.append("No other finding is audited: the null only exchanges requests within pairs.")
    elif null["auroc"]["value"] > _NULL_AUROC:
        other, value = null["highest"]
        cautions.append(
            f"The null is {null['auroc']['value']:.2f}, not near .5: the score also rises for {other} ({value:.2f})."
        )
    if told["memorization"]["flagged"]:
        cautions.append("Copies: drawn images are nearer to training images than held-out ones are.")
    shares = told["structure"]
    if shares and "drawn" in shares and shares["real"]["value"] is not None:
        drawn, real = shares["drawn"]["value"], shares["real"]["value"]
        if drawn < _HALF * real:
            fooled = ": the score is fooled" if word in (PASS, EASY) else ""
            cautions.append(
                f"The structure of the finding is there in {drawn:.0%} of drawn and {real:.0%} of real images{fooled}."
            )
    if told["counts"]["source_patients"] < _FEW_REAL:
        cautions.append(f"Label sets of only {told['counts']['source_patients']} patients.")
    return {"word": word, "why": why, "cautions": cautions}


def judge_all(material: Material, described: Mapping[str, Described], seed: int) -> dict[str, Any]:
    """All findings together, each with as many images of each kind."""
    sides: dict[str, list[np.ndarray]] = {"drawn": [], "held_out": [], "train": []}
    for finding in material.findings:
        rows = {
            "drawn": material.drawn(finding),
            "held_out": _compared(material, material.held_out, finding, seed),
            "train": _compared(material, material.unseen, finding, seed),
        }
        count = min(map(len, rows.values()))
        for name, of_finding in rows.items():
            sides[name].append(randomness(seed, "together", finding, name).permutation(of_finding)[:count])
    drawn, held_out, train = (np.concatenate(one) for one in sides.values())
    held_out, train = np.unique(held_out), np.unique(train)  # an image with two of the findings is there once
    patients: dict[str, Any] = {
        "drawn_sources": material.sources(drawn),
        "held_out_patients": _patients(material.held_out, held_out),
        "train_patients": _patients(material.unseen, train),
    }
    fidelity = {
        name: overall(one.drawn[drawn], one.of_held_out(held_out), one.of_train(train), **patients, seed=seed).to_dict()
        for name, one in described.items()
    }
    return {"fidelity": fidelity, "memorization": memorized(material, material.findings, seed)}
