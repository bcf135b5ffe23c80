"""Carry out a study: train every arm on every seed, compare them on test, write tables and page."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from trcgl.core import html, markdown, storage
from trcgl.core.recipe import Recipe
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.study import plots, tables
from trcgl.study.ablation import ablation, edges
from trcgl.study.arms import choose_arms, over_base
from trcgl.study.peers import PEERS
from trcgl.study.plan import Plan, against_baseline, begin, comparable
from trcgl.study.registry import explore, explored, make_folders
from trcgl.study.results import Outcome, collect, cost_of, earlier, results
from trcgl.study.runner import jobs_of, train_runs, try_arms
from trcgl.study.stored import read_stored


def peers(
    dataset: Path,
    base: Recipe,
    out: Path,
    *,
    arms: Sequence[str] = (),
    over: Literal["plain", "base"] = "plain",
    seeds: int = 3,
    baseline: str = "trcgl",
    primary: str | None = None,
    synthetic: Path | None = None,
) -> dict[str, Any]:
    """Compare published methods with the same data, steps, augmentation and selection rule.

    `arms` are names in `trcgl.study.peers.PEERS`, all if empty. Over `plain`, heads and backbones are trained with
    cross-entropy and every row once an epoch; over `base`, with the loss and row sampling of the base. `primary` is the
    arm of the contrast that is not adjusted; default: that of the existing study, else `linear`, else the first arm.
    The same call again continues the study in `out`.

    Returns:
        The table (schema `trcgl.study-table/1`), as written to `table.json`.
    """
    base = comparable(base)
    known = PEERS if over == "plain" else {name: over_base(arm) for name, arm in PEERS.items()}
    chosen = choose_arms(arms, known, base, synthetic=synthetic is not None)
    stored = read_stored(Path(out) / "study.json") if (Path(out) / "study.json").exists() else {}
    if (stored.get("kind"), stored.get("baseline")) == ("peers", baseline):
        primary = primary or stored.get("primary")  # arms that join later do not change it
    contrasts = against_baseline(chosen, baseline, primary)
    return study(Plan("peers", dataset, base, chosen, contrasts, seeds, synthetic), out)


def ablate(dataset: Path, base: Recipe, out: Path, *, seeds: int = 3, synthetic: Path | None = None) -> dict[str, Any]:
    """Measure what each part of a recipe adds: add the parts one by one, leave out each part, vary the label graph.

    `synthetic`, a synthetic folder of the dataset, makes synthetic images one of the parts. Otherwise as `peers`.
    """
    base = comparable(base)
    arms, contrasts = ablation(base, synthetic=synthetic is not None)
    return study(Plan("ablation", dataset, base, arms, contrasts, seeds, synthetic), out)


def study(plan: Plan, out: Path) -> dict[str, Any]:
    """Carry out a plan; return its table (schema `trcgl.study-table/1`)."""
    plan, out = replace(plan, dataset=Path(plan.dataset)), Path(out)
    opened = open_dataset(plan.dataset)
    jobs = jobs_of(plan, out)
    tried: set[str] = set()
    begin(plan, opened, out, lambda: tried.update(try_arms(jobs)))
    make_folders(plan, opened, out)
    train_runs(jobs, tried)
    outcomes = collect(jobs)
    document = results(plan, outcomes)
    if plan.kind == "ablation":
        document |= {"edges": edges(opened, plan.base, plan.arms)} | explore(plan, opened, outcomes, out)
    return conclude(plan, out, opened, outcomes, document)


def conclude(
    plan: Plan, out: Path, opened: Dataset, outcomes: Sequence[Outcome], document: dict[str, Any]
) -> dict[str, Any]:
    """Write tables and page of a plan whose runs are done; return the table (schema `trcgl.study-table/1`)."""
    document = document | {"earlier": earlier(plan, out)}
    cost = cost_of(plan, outcomes)
    storage.write_json(out / "command.json", {"command": storage.command()})
    storage.write_json(out / "environment.json", storage.environment())
    storage.write_json(out / "table.json", document)
    storage.write_text(out / "table.md", tables.markdown(document))
    storage.write_text(out / "table.csv", tables.csv(document))
    storage.write_json(out / "cost.json", cost)
    storage.write_text(out / "cost.md", markdown.table(tables.cost_table(cost).rows) + "\n")
    _write_page(out, document, cost, name=opened.name, phantom=opened.info["source"] == "phantom")
    return document


def _write_page(out: Path, document: dict[str, Any], cost: dict[str, Any], *, name: str, phantom: bool) -> None:
    """Write study.html and intervals.svg; for utility also doses.svg."""
    plotted = {"intervals": (plots.intervals(document), "Tail mAP of every arm and every difference, with intervals")}
    if document["kind"] == "utility":
        plotted["doses"] = (plots.dose_curve(document), "Tail mAP at every dose")
    figures = {}
    for file, (figure, label) in plotted.items():
        svg = html.svg_text(figure)
        storage.write_text(out / f"{file}.svg", svg)
        figures[file] = Markup(html.inline_svg(svg, label))
    shown = [*tables.tables_of(document), tables.arms_table(document), tables.cost_table(cost)]
    found = tables.sentences(document)
    templates = html.environment("trcgl.study")
    body = templates.get_template("study.html.j2").render(
        further=found[2:] + explored(document)[0],
        notes=tables.notes(document),
        figures=figures,
        tables=shown,
        command=storage.read_json(out / "command.json")["command"],
    )
    page = html.page(
        f"Study: {document['kind']}",
        body,
        lead=" ".join(found[:2]),
        subtitle=f"{name}: {len(document['arms'])} arms with {document['seeds']} seeds each, compared on test.",
        phantom=phantom,
        sections=(("plot", "Intervals"), *((table.id, table.title) for table in shown)),
        style=templates.get_template("study.css.j2").render(),
    )
    storage.write_text(out / "study.html", page)
