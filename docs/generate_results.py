"""Write the results of studies from their stored `table.json`: the table in README.md, and each table.md and table.csv.

Run by `make docs`. A test fails if README.md differs.
"""

from pathlib import Path
from typing import Any

from trcgl.core import html
from trcgl.study import plots, tables
from trcgl.study.stored import read_stored
from trcgl.study.wording import COLUMNS as NAMES

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results"
BEGIN, END = "<!-- from docs/results, by `make docs` -->\n", "<!-- to here -->\n"
STUDY = "heads-phantom"
"""Study with the table of README.md: heads over the same row sampling and loss."""
COLUMNS = ("mAP_tail", "mAP_overall", "mAUC")


def section() -> str:
    """The table of heads, best first."""
    document = read_stored(RESULTS / STUDY / "table.json")
    arms = sorted(document["arms"].items(), key=lambda arm: -arm[1]["metrics"]["mAP_tail"]["mean"])
    rows = [["head", *(NAMES[metric] for metric in COLUMNS)], ["---"] * (1 + len(COLUMNS))]
    rows += [[f"`{name}`", *(_cell(arm["metrics"][metric]) for metric in COLUMNS)] for name, arm in arms]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return (
        "Network heads trained on phantoms with the same backbone, row sampling and loss: mean ± standard deviation "
        f"over {document['seeds']}\nseeds on test. Tail mAP is the mean average precision of the rare findings. "
        "These results\nuse the heads of trcgl 0.2 (`--model.head-version 0.2`); "
        "the default heads now follow their authors' code.\n"
        f"[More results](docs/results/{STUDY}.md).\n\n{table}\n"
    )


def readme() -> str:
    """README.md with the new table."""
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    return before + BEGIN + "\n" + section() + "\n" + END + rest.split(END)[1]


def write_study(folder: Path) -> None:
    """Write table.md, table.csv and the plots of a stored study."""
    document = read_stored(folder / "table.json")
    figures = {"intervals": plots.intervals(document)}
    if document["kind"] == "utility":
        figures["doses"] = plots.dose_curve(document)
    texts = {"table.md": tables.markdown(document), "table.csv": tables.csv(document)}
    texts |= {f"{name}.svg": html.svg_text(figure) for name, figure in figures.items()}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _cell(over_seeds: dict[str, Any]) -> str:
    return f"{over_seeds['mean']:.3f} ± {over_seeds['sd']:.3f}"


if __name__ == "__main__":
    README.write_text(readme(), encoding="utf-8")
    for path in RESULTS.glob("*/table.json"):
        write_study(path.parent)
