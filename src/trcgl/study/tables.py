"""The results as Markdown and CSV."""

import csv as comma
import io
from typing import Any

from trcgl.core.markdown import table
from trcgl.core.recipe import UNUSED_GATE
from trcgl.study import utility_tables
from trcgl.study.experiments import causes_tables
from trcgl.study.wording import METRICS, spread


def markdown(document: dict[str, Any]) -> str:
    """The verdict, the means over seeds, the differences, and what belongs below them."""
    parts = [
        document["verdict"],
        f"Test, mean ± standard deviation over {_many(document['seeds'], 'seed')}:",
        table(mean_rows(document)),
        "Difference in tail mAP, with patients and seeds both sampled; \\* leaves out 0. The first contrast is the "
        f"primary one, at {document['level']:.0%}; the others are adjusted for their number (Holm). `detectable`: the "
        "smallest difference that would probably have been found.",
        table(difference_rows(document)),
    ]
    if gates := gate_rows(document):
        parts += ["Gates of the best epoch, mean ± standard deviation over seeds:", table(gates)]
    if unused := unused_modules(document):
        parts.append(unused)
    if edges := document.get("edges"):
        rows = [("graph", "edges", "of pairs")]
        rows += [(one["name"], str(one["edges"]), str(one["pairs"])) for one in edges]
        parts += ["Edges of the label graph:", table(rows)]
    if causes := document.get("causes"):
        parts += ["The causes that the paper gives, tested:", *causes_tables.answers(causes)]
        parts += [text for caption, rows in causes_tables.sections(causes) for text in (caption, table(rows))]
    if document["kind"] == "utility":
        further = utility_tables.sections(document)
        parts += [part for one in further for part in (f"{one.title}. {one.caption}:", table(one.rows))]
    notes = [
        f"{name}, seed {seed}, diverged and is not averaged: {why}"
        for name, arm in document["arms"].items()
        for seed, why in arm["diverged"].items()
    ]
    notes += [looks] if (looks := looked_before(document)) else []
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    return "\n\n".join(parts) + "\n"


def looked_before(document: dict[str, Any]) -> str:
    """With how many seeds and contrasts the study was looked at before; empty where it was not."""
    if not document.get("earlier"):
        return ""
    looks = [
        f"{_many(one['seeds'], 'seed')} and {_many(len(one['contrasts']), 'contrast')}" for one in document["earlier"]
    ]
    return (
        f"A table of this study was written before with {', then with '.join(looks)}. If it was extended because of "
        "what that said, its intervals are too short."
    )


def cost_markdown(cost: dict[str, Any]) -> str:
    """What every arm costs."""
    return table(cost_rows(cost)) + "\n"


def mean_rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """Head and rows of the means over seeds."""
    rows = [("arm", "seeds", *METRICS.values(), "parameters")]
    for name, arm in document["arms"].items():
        cells = [spread(arm["metrics"][metric]) for metric in METRICS]
        rows.append((name, str(len(arm["seeds"])), *cells, millions(arm["parameters"])))
    return rows


def difference_rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """Head and rows of the contrasts."""
    rows: list[tuple[str, ...]] = [("contrast", "question", "difference [interval]", "level", "p", "detectable")]
    for one in document["contrasts"]:
        name = f"{one['arm']} - {one['against']}" + (" (primary)" if one["primary"] else "")
        if one["interval"] is None:
            value = "–" if one["value"] is None else f"{one['value']:+.4f}"
            rows.append((name, one["what"], f"{value} ({one['why']})", "", "", ""))
            continue
        low, high = one["interval"]
        sure = "" if low <= 0 <= high else " \\*"
        rows.append(
            (
                name,
                one["what"],
                f"{one['value']:+.4f} [{low:+.4f}, {high:+.4f}]{sure}",
                f"{one['level']:.2%}",
                probability(one["p"]),
                f"{one['detectable']:.4f}",
            )
        )
    return rows if any(row[1] for row in rows[1:]) else [(row[0], *row[2:]) for row in rows]


def gate_rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """Head and rows of the gates; empty where no arm has any."""
    with_gates = {name: arm["gates"] for name, arm in document["arms"].items() if arm["gates"]}
    names = list(dict.fromkeys(gate for gates in with_gates.values() for gate in gates))
    rows = [("arm", *names)]
    rows += [(arm, *(spread(gates[one]) if one in gates else "" for one in names)) for arm, gates in with_gates.items()]
    return rows if with_gates else []


def unused_modules(document: dict[str, Any]) -> str:
    """Which learned gates stayed nearer to 0 than 0.01, in a sentence; empty where none did."""
    told = [f"{name}: {', '.join(arm['unused'])}" for name, arm in document["arms"].items() if arm["unused"]]
    return f"Unused, for the learned gate is below {UNUSED_GATE} in every seed: {'; '.join(told)}." if told else ""


def cost_rows(cost: dict[str, Any]) -> list[tuple[str, ...]]:
    """Head and rows of what every arm costs."""
    rows: list[tuple[str, ...]] = [("arm", "parameters", "training images/s", "peak memory (MiB)", "device")]
    for name, arm in cost["arms"].items():
        rate = f"{arm['images_per_second']:.3g}" if arm["images_per_second"] else "–"
        rows.append((name, millions(arm["parameters"]), rate, f"{arm['peak_memory_mib']:,}", arm["device"]))
    return rows


def csv(document: dict[str, Any]) -> str:
    """One row for each arm and seed, in full precision; a run that diverged has empty cells."""
    text = io.StringIO()
    writer = comma.writer(text, lineterminator="\n")
    writer.writerow(["arm", "seed", "status", *METRICS, "parameters"])
    for name, arm in document["arms"].items():
        rows = {
            seed: [arm["metrics"][one]["values"][place] for one in METRICS] for place, seed in enumerate(arm["seeds"])
        }
        for seed, values in rows.items():
            writer.writerow([name, seed, "finished", *values, arm["parameters"]])
        for seed in arm["diverged"]:
            writer.writerow([name, seed, "diverged", *([None] * len(METRICS)), arm["parameters"]])
    return text.getvalue()


def millions(parameters: int | None) -> str:
    """A number of parameters."""
    return "–" if parameters is None else f"{parameters / 1e6:.2f} M"


def probability(p: float) -> str:
    """A p-value."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
