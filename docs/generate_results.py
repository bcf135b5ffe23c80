"""Write the front table of README.md from docs/results: `make docs`. A test fails where the two differ."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results"
BEGIN, END = "<!-- from docs/results, by `make docs` -->\n", "<!-- to here -->\n"
COLUMNS = {"peers-phantom": "phantoms", "peers-nih-mini": "2,294 radiographs"}
"""Studies of `trcgl study peers` whose tail mAP the table shows, with the heads of their columns."""
METRIC = "mAP_tail"


def section() -> str:
    """The table of peers, best on the first study first, and what each study on record says in its own words."""
    peers = {name: _study(name) for name in COLUMNS}
    seeds = {document["seeds"] for document in peers.values()}
    first, *others = (_ranked(document) for document in peers.values())
    arms = list(dict.fromkeys([*first, *(arm for ranked in others for arm in ranked)]))
    rows = [["arm", *(f"tail mAP, {words}" for words in COLUMNS.values())], ["---"] * (1 + len(COLUMNS))]
    rows += [[f"`{arm}`", *(_cell(document, arm) for document in peers.values())] for arm in arms]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    names = sorted(path.parent.name for path in RESULTS.glob("*/table.json"))
    told = "\n".join(f"- [{name}](docs/results/{name}.md). {_study(name)['verdict']}" for name in names)
    caption = (
        f"Test, mean ± standard deviation over {' or '.join(map(str, seeds))} seeds. The pages say what each arm is:"
    )
    return f"{caption}\n\n{table}\n\n{told}\n"


def readme() -> str:
    """README.md with the section made anew."""
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    return before + BEGIN + "\n" + section() + "\n" + END + rest.split(END)[1]


def _study(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / name / "table.json").read_text(encoding="utf-8"))


def _ranked(document: dict[str, Any]) -> list[str]:
    """Arms by their mean, the best first; those of which every run diverged last."""
    means = {name: arm["metrics"][METRIC]["mean"] for name, arm in document["arms"].items()}
    return sorted(means, key=lambda name: -(means[name] or 0.0))


def _cell(document: dict[str, Any], arm: str) -> str:
    """Mean ± standard deviation over seeds."""
    if arm not in document["arms"]:
        return ""
    over_seeds = document["arms"][arm]["metrics"][METRIC]
    if over_seeds["mean"] is None:
        return "diverged"
    spread = "" if over_seeds["sd"] is None else f" ± {over_seeds['sd']:.3f}"
    return f"{over_seeds['mean']:.3f}{spread}"


if __name__ == "__main__":
    README.write_text(readme(), encoding="utf-8")
