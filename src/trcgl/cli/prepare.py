"""The verb `prepare`."""

import importlib
from pathlib import Path

from trcgl.cli.verb import Chosen, Done, Verb, first_line
from trcgl.core.errors import RecipeError
from trcgl.core.registry import unknown

REASONS = 5
"""Printed reasons for dropped images and for images set aside, the most frequent first; the report has all."""


def prepare(arguments: list[str]) -> Chosen:
    """The command of `trcgl prepare`, whose flags depend on its source."""
    from trcgl.dataset import prepare as stage
    from trcgl.dataset.finding_counts import findings_text
    from trcgl.dataset.sources import SOURCES

    if arguments and arguments[0] in ("-h", "--help"):
        lines = [f"  {name:<14} {first_line(importlib.import_module(module))}" for name, module in SOURCES.items()]
        print(f"Example: {VERB.example}\n\nusage: trcgl prepare SOURCE --root DIR --out DATASET [OPTIONS]\n")
        print(f"{VERB.what} `trcgl prepare SOURCE --help` shows the options of a source.\n")
        print("\n".join(lines))
        raise SystemExit(0)
    if not arguments or arguments[0].startswith("-"):
        raise RecipeError(f"name the source first: trcgl prepare SOURCE ...; there are {', '.join(SOURCES)}.")
    name = arguments[0]
    if name not in SOURCES:
        raise RecipeError(unknown("source", name, SOURCES))
    module = importlib.import_module(SOURCES[name])
    needs_root = name != "phantom"
    own_size = {"size": module.Options().size} if name == "phantom" else {}  # rendered, so never enlarged unasked

    def command(
        *,
        out: Path,
        root: Path | None = None,
        options: stage.PrepareOptions = stage.PrepareOptions(**own_size),  # noqa: B008
        source: module.Options = module.Options(),  # noqa: B008
    ) -> Done:
        if root is None and needs_root:
            raise RecipeError(f"--root is missing: the folder of the {name} archive.")
        report = stage.prepare(name, root, out, options, source)
        lines = [f"{kind}: {count:,}" for kind, count in report["counts"].items()]
        for what, reasons in (("dropped", report["reasons"]), ("set aside", report["set_aside"])):
            lines += [f"{what}, {reason.rstrip('.')}: {count:,}" for reason, count in list(reasons.items())[:REASONS]]
        lines += [f"files, {what}: {count:,}" for what, count in report.get("files", {}).items()]
        lines += [f"notice: {notice}" for notice in report.get("notices", [])]  # reports of 0.2.0 have none
        lines += ["", findings_text(report["findings"]), ""]
        return Done(report, "\n".join([*lines, f"report: {out / 'report.html'}", f"next: trcgl describe {out}"]))

    command.__doc__ = f"""{first_line(module)}

    Args:
        out: Dataset folder to write; an interrupted preparation with the same settings is resumed.
        root: Folder of the archive{"" if needs_root else "; not needed, as phantoms are rendered"}.
    """
    example = next((line.strip() for line in (module.__doc__ or "").splitlines() if "trcgl prepare" in line), None)
    return command, arguments[1:], example or f"trcgl prepare {name} --root {name.upper()} --out {name}"


VERB = Verb(
    "Turn an archive's label table and radiographs into a dataset folder.",
    "trcgl prepare nih --root NIH --out nih",
    prepare,
)
