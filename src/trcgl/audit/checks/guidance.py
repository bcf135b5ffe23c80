"""Guidance: label fidelity and diversity of the same label sets and seeds at every guidance scale.

The findings are pooled: the mean of their AUROCs, and the share of all images that the auditor calls positive.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from trcgl.audit.check import Check, Evidence
from trcgl.audit.checks import diversity
from trcgl.audit.intervals import REPLICATES, rate
from trcgl.audit.sample_plan import SWEEP, WITH, own_guidance
from trcgl.audit.scored_images import PairedScores
from trcgl.core import html
from trcgl.core.html import CARD, INK, MUTED, PALETTE
from trcgl.dataset.labels import LabelSpace
from trcgl.metrics.auroc import AUROC
from trcgl.metrics.intervals import difference_interval, freedom_of_mean
from trcgl.metrics.summary import mean_over_findings, measure, with_interval


@dataclass(frozen=True)
class PooledFidelity:
    """Label fidelity of all findings together."""

    summary: dict[str, Any]  # AUROC of each finding, their mean, and hit rate and false-positive rate over all images
    mean: float  # mean of the AUROCs
    samples: Float[np.ndarray, " replicates"]  # mean of the AUROCs on every replicate
    freedom: float  # degrees of freedom of the interval of the mean


def pooled_fidelity(
    pairs: PairedScores, findings: Sequence[str], space: LabelSpace, thresholds: Mapping[str, float], seed: int = 0
) -> PooledFidelity:
    """Label fidelity of all findings together, each by its own score and threshold."""
    targets, patients = pairs.rows["target"].to_numpy(), np.tile(pairs.rows["patient_id"].to_numpy(), 2)
    owner = np.unique(patients.astype(str), return_inverse=True)[1]
    both = np.concatenate([pairs.with_target, pairs.without_target]).astype(np.float64)
    truth = np.full((len(both), len(findings)), np.nan)
    score = np.zeros_like(truth)
    called = np.zeros(len(both), bool)
    for column, finding in enumerate(findings):
        rows = np.tile(targets == finding, 2)
        truth[rows, column] = np.repeat([1.0, 0.0], int(rows.sum()) // 2)
        score[:, column] = both[:, space.index(finding)]
        called |= rows & (score[:, column] >= thresholds[finding])
    measured = measure(truth, score, owner, metrics=(AUROC,), replicates=REPLICATES, seed=seed)
    values, samples, freedom = measured.values("AUC"), measured.replicates["AUC"], measured.freedom["AUC"]
    half = len(called) // 2
    summary = {
        "images": half,
        "auroc": mean_over_findings(values, samples, freedom),
        "hit_rate": rate(called[:half], owner[:half], seed=seed),
        "false_positive_rate": rate(called[half:], owner[half:], seed=seed),
        "findings": dict(zip(findings, values.tolist(), strict=True)),
    }
    return PooledFidelity(summary, float(values.mean()), samples.mean(1), freedom_of_mean(samples, freedom))


def pooled_fidelity_of(evidence: Evidence, prefix: str, each: int) -> PooledFidelity:
    """Label fidelity of the first images of each finding in the sheets of this prefix."""
    images = evidence.images
    return pooled_fidelity(images.pairs(prefix, each), images.findings, images.space, images.thresholds, evidence.seed)


def difference(fidelity: PooledFidelity, other: PooledFidelity) -> dict[str, Any]:
    """Difference of the mean AUROCs on the same label sets and seeds, with a paired interval."""
    value = fidelity.mean - other.mean
    freedom = min(fidelity.freedom, other.freedom)
    return with_interval(value, difference_interval(value, fidelity.samples - other.samples, freedom))


def of_all(evidence: Evidence) -> list[dict[str, Any]]:
    """Label fidelity and diversity at every scale, on the first images of each finding; empty without a sweep.

    If findings of the synthetic folder have different scales, its own entry has the scale None and comes last.
    """
    images, each = evidence.images, evidence.options.sweep_each
    own = own_guidance(images.sheets[WITH].rows)
    results = []
    for scale in sorted({*SWEEP, own}, key=lambda scale: math.inf if scale is None else scale) if each else ():
        prefix = "" if scale == own else f"guidance-{scale:g}-"
        pooled = pooled_fidelity_of(evidence, prefix, each)
        sheet, varied = images.sheets[prefix + WITH], {}
        for finding in images.findings:
            rows = sheet.rows_of(finding)[:each]
            features = evidence.first_space.space(sheet.images[rows])
            varied[finding] = diversity.compare(evidence, finding, sheet, rows, features, pairs=300, replicates=50)
        results.append({"guidance": scale, "own": scale == own, **pooled.summary, "diversity": varied})
    return results


def plot(sweep: list[dict[str, Any]]) -> Markup | None:
    """Label fidelity and hit rate against diversity, a point per guidance scale; None if no diversity is known."""
    from matplotlib.figure import Figure

    points = []
    for row in sweep:
        scores = [found["vendi"]["synthetic"]["value"] for found in row["diversity"].values()]
        known = [score for score in scores if score is not None]
        if known and row["auroc"]["value"] is not None:
            points.append((float(np.mean(known)), row))
    if not points:
        return None
    plots = []
    across = [x for x, _ in points]
    with html.house_style():
        for name, title, color in (
            ("auroc", "Label fidelity: mean AUROC", PALETTE["head"][0]),
            ("hit_rate", "Hit rate; false-positive rate (open)", PALETTE["tail"][0]),
        ):
            figure = Figure(figsize=(4.6, 3.6), layout="constrained")
            axes = figure.subplots()
            axes.plot(across, [row[name]["value"] for _, row in points], color=color, linewidth=1, alpha=0.5)
            for x, row in points:
                y, scale = row[name]["value"], row["guidance"]
                if row[name]["ci"]:
                    axes.plot([x, x], row[name]["ci"], color=color, linewidth=1.2)
                axes.plot(x, y, "o", color=color, markersize=8 if row["own"] else 5)
                label = "own" if scale is None else f"{scale:g}"
                axes.annotate(label, (x, y), (6, 5), textcoords="offset points", color=INK, fontsize=9)
            if name == "auroc":
                axes.axhline(0.5, color=MUTED, linewidth=1, linestyle=":")
            else:
                false = [row["false_positive_rate"]["value"] for _, row in points]
                axes.plot(across, false, "o", color=MUTED, markerfacecolor=CARD, markersize=5)
            axes.set(title=title, xlabel="diversity: mean Vendi score per finding")
            axes.grid(axis="y")
            plots.append(Markup(html.figure_svg(figure, f"{title}, against diversity at every guidance scale")))
    return Markup().join(plots)


CHECK = Check(
    key="guidance",
    order=100,
    title="Guidance scale",
    null="the scale of the synthetic folder",
    of_all=of_all,
    plot=plot,
)
