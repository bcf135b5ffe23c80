"""The tables of a study, and the files table.md, table.csv and cost.md made from them."""

import csv as comma
import io
from typing import Any

from trcgl.core import markdown as core_markdown
from trcgl.core.recipe import UNUSED_GATE
from trcgl.study import utility_report, wording
from trcgl.study.registry import explored
from trcgl.study.wording import COLUMNS, Rows, Table, change, columns_of, known, names_of, plural, spread


def sentences(document: dict[str, Any]) -> list[str]:
    """What the study found, most important first."""
    if document["kind"] == "utility":
        return utility_report.sentences(document)
    return wording.sentences(document)


def tables_of(document: dict[str, Any]) -> list[Table]:
    """All tables of the results, in the order of the report."""
    caption = (
        "Largest first; \\* marks an interval without 0. The interval of the primary contrast is at "
        f"{100 * document['level']:.0f} %, the others are adjusted for their number (Holm). Detectable: the smallest "
        f"difference that a study of this size detects with {wording.POWERED}"
    )
    found = [Table("differences", "Differences in tail mAP", caption, _differences(document))]
    caption = "Test: mean ± standard deviation over the seeds of each arm"
    found.append(Table("means", "Means over seeds", caption, _means(document)))
    if subsets := _subsets(document):
        caption = (
            "Test, mAP by view, label source, sex and age: mean ± standard deviation over seeds. Compare the arms in a "
            "column, not the columns: a finding without positives in a subset is left out of its mean"
        )
        found.append(Table("subsets", "Subsets", caption, subsets, folded=True))
    if gates := _gates(document):
        caption = "Gates of the best epoch, mean ± standard deviation over seeds"
        found.append(Table("gates", "Gates", caption, gates, folded=True))
    if edges := document.get("edges"):
        rows: Rows = [("graph", "edges", "of pairs")]
        rows += [(graph["name"], str(graph["edges"]), str(graph["pairs"])) for graph in edges]
        found.append(Table("edges", "Label graphs", "Edges of the label graph", rows, folded=True))
    if document["kind"] == "utility":
        found += utility_report.tables_of(document)
    return found + explored(document)[1]


def notes(document: dict[str, Any]) -> list[str]:
    """What a reader must know beside the tables: unused modules, diverged runs, earlier looks at the results."""
    unused = [f"{name}: {', '.join(arm['unused'])}" for name, arm in document["arms"].items() if arm["unused"]]
    found = [f"Unused: the learned gate is below {UNUSED_GATE} in every seed: {'; '.join(unused)}."] if unused else []
    found += [
        f"{name}, seed {seed}, diverged and is not averaged: {why}"
        for name, arm in document["arms"].items()
        for seed, why in arm["diverged"].items()
    ]
    if earlier := document.get("earlier"):
        counts = [(plural(look["seeds"], "seed"), plural(len(look["contrasts"]), "contrast")) for look in earlier]
        looks = ", then with ".join(map(" and ".join, counts))
        found.append(
            f"A table of this study was written before with {looks}. If the study was extended "
            "because of that table, its intervals are too short."
        )
    return found


def markdown(document: dict[str, Any]) -> str:
    """table.md: what was found, all tables, notes."""
    parts = [" ".join(sentences(document)), *explored(document)[0]]
    for shown in tables_of(document):
        parts += [f"{shown.title}. {shown.caption}:", core_markdown.table(shown.rows)]
    if noted := notes(document):
        parts.append("\n".join(f"- {note}" for note in noted))
    return "\n\n".join(parts) + "\n"


def cost_table(cost: dict[str, Any]) -> Table:
    """Parameters, speed and memory of each arm."""
    rows: Rows = [("arm", "parameters", "training images/s", "peak memory (MiB)", "device")]
    for name, arm in cost["arms"].items():
        rate = known(arm["images_per_second"], ".3g")
        rows.append((name, _millions(arm["parameters"]), rate, f"{arm['peak_memory_mib']:,}", arm["device"]))
    caption = "Parameters, training images per second in the fastest epoch, and peak memory of the process"
    return Table("cost", "Cost", caption, rows, folded=True)


def arms_table(document: dict[str, Any]) -> Table:
    """What each arm changes."""
    rows: Rows = [("arm", "reference", "differs from the original", "changes")]
    rows += [
        (name, arm["reference"], arm["differs"], ", ".join(arm["changes"])) for name, arm in document["arms"].items()
    ]
    caption = "Settings that each arm changes in the base recipe; all other settings are the same"
    return Table("arms", "Arms", caption, rows, prose=True, folded=True)


def csv(document: dict[str, Any]) -> str:
    """One row for each arm and seed, in full precision; a diverged run has empty cells."""
    text, metrics = io.StringIO(), columns_of(document)
    writer = comma.writer(text, lineterminator="\n")
    writer.writerow(["arm", "seed", "status", *metrics, "parameters"])
    for name, arm in document["arms"].items():
        for place, seed in enumerate(arm["seeds"]):
            values = [arm["metrics"][metric]["values"][place] for metric in metrics]
            writer.writerow([name, seed, "finished", *values, arm["parameters"]])
        for seed in arm["diverged"]:
            writer.writerow([name, seed, "diverged", *([None] * len(metrics)), arm["parameters"]])
    return text.getvalue()


def _means(document: dict[str, Any]) -> Rows:
    metrics = columns_of(document)
    rows: Rows = [("arm", "seeds", *(COLUMNS[metric] for metric in metrics), "parameters")]
    for name, arm in document["arms"].items():
        cells = [spread(arm["metrics"][metric]) for metric in metrics]
        rows.append((name, str(len(arm["seeds"])), *cells, _millions(arm["parameters"])))
    return rows


def _subsets(document: dict[str, Any]) -> Rows:
    """Table of the mAP of each arm in each subset; empty where the runs have none."""
    parts = {name: arm.get("subsets", {}) for name, arm in document["arms"].items()}
    names = list(dict.fromkeys(subset for subsets in parts.values() for subset in subsets))
    rows: Rows = [("arm", *(name.replace("_", " ").replace("=", ": ") for name in names))]
    rows += [
        (arm, *(spread(subsets[name]["mAP"]) if name in subsets else "–" for name in names))
        for arm, subsets in parts.items()
    ]
    return rows if names else []


def _differences(document: dict[str, Any]) -> Rows:
    rows: Rows = [("contrast", "question", "difference [interval]", "level", "p", "detectable")]
    for contrast in wording.by_effect(document["contrasts"]):
        name = names_of(contrast) + (" (primary)" if contrast["primary"] else "")
        if contrast["interval"] is None:
            value = "–" if contrast["value"] is None else change(contrast["value"], None)
            rows.append((name, contrast["what"], f"{value} ({contrast['why']})", "", "", ""))
            continue
        mark = " \\*" if wording.decided(contrast["interval"]) else ""
        difference = change(contrast["value"], contrast["interval"]) + mark
        p = "< 0.001" if contrast["p"] < 0.001 else f"{contrast['p']:.3f}"
        level, detectable = f"{contrast['level']:.2%}", f"{contrast['detectable']:.4f}"
        rows.append((name, contrast["what"], difference, level, p, detectable))
    return rows if any(row[1] for row in rows[1:]) else [(row[0], *row[2:]) for row in rows]


def _gates(document: dict[str, Any]) -> Rows:
    """Table of the gates of each arm; empty if no arm has gates."""
    with_gates = {name: arm["gates"] for name, arm in document["arms"].items() if arm["gates"]}
    names = list(dict.fromkeys(gate for gates in with_gates.values() for gate in gates))
    rows: Rows = [("arm", *names)]
    rows += [
        (arm, *(spread(gates[name]) if name in gates else "" for name in names)) for arm, gates in with_gates.items()
    ]
    return rows if with_gates else []


def _millions(parameters: int | None) -> str:
    return "–" if parameters is None else f"{parameters / 1e6:.2f} M"
