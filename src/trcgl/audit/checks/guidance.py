"""Ways to draw, compared on the same label sets and seeds: guidance scales, and prompts with and without tokens.

The findings are taken together: the mean of their AUROCs, and the share of all images that the auditor calls.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from trcgl.audit.checks.label_fidelity import REPLICATES, rate
from trcgl.audit.sample_plan import SWEEP, WITH, WITHOUT, first, own_guidance
from trcgl.audit.scored_images import Material, Pairs
from trcgl.dataset.labels import LabelSpace
from trcgl.metrics.auroc import AUROC, auroc
from trcgl.metrics.bootstrap import patient_bootstrap
from trcgl.metrics.intervals import difference_interval, effective_patients, freedom_of_mean
from trcgl.metrics.summary import mean_over_findings, with_interval


@dataclass(frozen=True)
class Way:
    """What came of one way to draw.

    Args:
        told: AUROC of each finding, their mean, hit rate and false-positive rate over all images.
        mean: of the AUROCs.
        samples: the same on every replicate.
        freedom: of its interval.
    """

    told: dict[str, Any]
    mean: float
    samples: Float[np.ndarray, " replicates"]
    freedom: float


def judge_way(
    pairs: Pairs, findings: Sequence[str], space: LabelSpace, thresholds: Mapping[str, float], seed: int = 0
) -> Way:
    """Label fidelity of all findings together.

    Args:
        pairs: scores of images with and without their target.
        findings: audited.
        space: of the scores.
        thresholds: of the auditor.
        seed: of the bootstrap.
    """
    targets, patients = pairs.rows["target"].to_numpy(), np.tile(pairs.rows["patient_id"].to_numpy(), 2)
    owner = np.unique(patients.astype(str), return_inverse=True)[1]
    both = np.concatenate([pairs.with_it, pairs.without]).astype(np.float64)
    truth = np.full((len(both), len(findings)), np.nan)
    score = np.zeros_like(truth)
    called = np.zeros(len(both), bool)
    for column, finding in enumerate(findings):
        of_finding = np.tile(targets == finding, 2)
        truth[of_finding, column] = np.repeat([1.0, 0.0], int(of_finding.sum()) // 2)
        score[:, column] = both[:, space.index(finding)]
        called |= of_finding & (score[:, column] >= thresholds[finding])
    samples = patient_bootstrap(truth, score, owner, metrics=(AUROC,), replicates=REPLICATES, seed=seed)["AUC"]
    values = np.array([auroc(truth[:, one], score[:, one]).value for one in range(len(findings))], np.float64)
    freedom = np.array([effective_patients(one, owner) - 1 for one in truth.T])
    half = len(called) // 2
    told = {
        "images": half,
        "auroc": mean_over_findings(values, samples, freedom),
        "hit_rate": rate(called[:half], owner[:half], seed=seed),
        "false_positive_rate": rate(called[half:], owner[half:], seed=seed),
        "findings": dict(zip(findings, values.tolist(), strict=True)),
    }
    return Way(told, float(values.mean()), samples.mean(1), freedom_of_mean(samples, freedom))


def difference(one: Way, other: Way) -> dict[str, Any]:
    """Mean AUROC of one way less that of the other, on the same label sets and seeds, with a paired interval."""
    value = one.mean - other.mean
    return with_interval(
        value, difference_interval(value, one.samples - other.samples, min(one.freedom, other.freedom))
    )


def handwritten(material: Material, each: int, seed: int = 0) -> dict[str, Any] | None:
    """The learned tokens against the prompt alone; None where the generator has none, or nothing was drawn.

    Args:
        material: of the audit.
        each: images of each finding that were drawn without tokens.
        seed: of the bootstrap.
    """
    if f"handwritten-{WITH}" not in material.sheets:
        return None
    thresholds = material.inputs.auditor.thresholds or {}
    learned = judge_way(_first(material, each), material.findings, material.space, thresholds, seed)
    alone = judge_way(
        material.pairs(f"handwritten-{WITH}", f"handwritten-{WITHOUT}"),
        material.findings,
        material.space,
        thresholds,
        seed,
    )
    recipe = material.inputs.generator.info["recipe"]
    own_stage = bool(recipe["fit"]["context_steps"])
    return {
        "learned": learned.told,
        "handwritten": alone.told,
        "difference": difference(learned, alone),
        "tokens_trained": "in their own stage" if own_stage else "with the network",
        "why": (
            "The tokens were trained in a stage of their own, after the network: without them the network gets what it "
            "was trained on."
            if own_stage
            else "The tokens were trained together with the network, which has never seen a prompt without them: this "
            "shows how much it relies on them, not what handwritten prompts could reach."
        ),
    }


def guidance_sweep(material: Material, each: int, diversity_of: Any, seed: int = 0) -> list[dict[str, Any]]:
    """Label fidelity and diversity at every guidance scale, on the first images of each finding.

    The scale of the synthetic folder is None, and comes last, where its findings have scales of their own.

    Args:
        material: of the audit.
        each: images of each finding at each scale.
        diversity_of: (finding, images, patients) to a plain JSON value.
        seed: of the bootstrap.
    """
    thresholds = material.inputs.auditor.thresholds or {}
    found = []
    own = own_guidance(material.sheets[WITH].rows)
    for scale in sorted({*SWEEP, own}, key=lambda one: math.inf if one is None else one) if each else ():
        if scale == own:
            pairs, with_it = _first(material, each), WITH
        else:
            with_it = f"guidance-{scale:g}-{WITH}"
            pairs = material.pairs(with_it, f"guidance-{scale:g}-{WITHOUT}")
        way = judge_way(pairs, material.findings, material.space, thresholds, seed)
        diversity = {}
        for finding in material.findings:
            rows = material.drawn(finding, with_it)[:each]
            diversity[finding] = diversity_of(finding, material.images[with_it][rows], material.sources(rows, with_it))
        found.append({"guidance": scale, "own": scale == own, **way.told, "diversity": diversity})
    return found


def _first(material: Material, each: int) -> Pairs:
    """The first pairs of each finding of the main sheets."""
    rows = material.sheets[WITH].rows.with_row_index("place")
    chosen = first(rows, each)
    places = chosen["place"].to_numpy()
    return Pairs(material.scores[WITH][places], material.scores[WITHOUT][places], chosen.drop("place"))
