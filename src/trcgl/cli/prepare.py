"""`trcgl prepare` on the command line."""

import importlib
from pathlib import Path
from typing import Annotated

from trcgl.cli.verb import Chosen, Done, Verb, first_line
from trcgl.core.errors import RecipeError
from trcgl.core.registry import unknown

REASONS = 5
"""Printed reasons for dropped images and for images set aside, the most frequent first; the report has all."""


def prepare(arguments: list[str]) -> Chosen:
    """The command of `trcgl prepare`, whose flags depend on its source."""
    import tyro

    from trcgl.dataset import prepare as stage
    from trcgl.dataset.finding_counts import findings_text
    from trcgl.dataset.sources import SOURCES

    if arguments and arguments[0] in ("-h", "--help"):
        lines = [f"  {name:<14} {first_line(importlib.import_module(module))}" for name, module in SOURCES.items()]
        print(f"Example: {VERB.example}\n\nusage: trcgl prepare SOURCE --root DIR --out DATASET [OPTIONS]\n")
        print(f"{VERB.what} `trcgl prepare SOURCE --help` shows the options of a source.\n")
        print("\n".join(lines))
        raise SystemExit(0)
    known = ", ".join(SOURCES)
    if not arguments or arguments[0].startswith("-"):
        raise RecipeError(f"name the source first: trcgl prepare SOURCE ...; there are {known}.")
    source = arguments[0]
    if source not in SOURCES:
        raise RecipeError(unknown("source", source, SOURCES))
    module = importlib.import_module(SOURCES[source])
    needs_root = source != "phantom"
    shared = Annotated[stage.PrepareOptions, tyro.conf.arg(name="")]
    special = Annotated[module.Options, tyro.conf.arg(name="source")]
    own_size = {"size": module.Options().size} if source == "phantom" else {}  # rendered, so never enlarged unasked

    def command(
        *,
        out: Path,
        root: Path | None = None,
        options: shared = stage.PrepareOptions(**own_size),  # noqa: B008
        source_options: special = module.Options(),  # noqa: B008
    ) -> Done:
        if root is None and needs_root:
            raise RecipeError(f"--root is missing: the folder of the {source} archive.")
        report = stage.prepare(source, root, out, options, source_options)
        lines = [f"{name}: {count:,}" for name, count in report["counts"].items()]
        for what, reasons in (("dropped", report["reasons"]), ("set aside", report["set_aside"])):
            lines += [f"{what}, {reason}: {count:,}" for reason, count in list(reasons.items())[:REASONS]]
        lines += ["", findings_text(report["findings"]), ""]
        return Done(report, "\n".join([*lines, f"report: {out / 'report.html'}", f"next: trcgl describe {out}"]))

    command.__doc__ = f"""{first_line(module)}

    Args:
        out: Dataset folder to write: new, or an interrupted one of the same settings, which is completed.
        root: Folder of the archive{"" if needs_root else "; not needed, as phantoms are rendered"}.
    """
    example = next((line.strip() for line in (module.__doc__ or "").splitlines() if "trcgl prepare" in line), None)
    return command, arguments[1:], example or f"trcgl prepare {source} --root {source.upper()} --out {source}"


VERB = Verb(
    "Turn an archive's label table and radiographs into a dataset folder.",
    "trcgl prepare nih --root NIH --out nih",
    prepare,
)
