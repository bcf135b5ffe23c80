"""`prepare` and `describe`."""

from pathlib import Path
from typing import Annotated

from trcgl.core.errors import RecipeError
from trcgl.verbs.verb import Command, Done, first_line


def prepare(arguments: list[str]) -> tuple[Command, list[str], str | None]:
    """The command for the source that is named first."""
    import importlib

    import tyro

    from trcgl.data.prepare import PrepareOptions, prepare
    from trcgl.data.sources import SOURCES
    from trcgl.verbs import VERBS

    known = ", ".join(SOURCES)
    if arguments and arguments[0] in ("-h", "--help"):
        lines = [f"  {name:<14} {first_line(importlib.import_module(module))}" for name, module in SOURCES.items()]
        print(
            f"Example: {VERBS['prepare'].example}\n\nusage: trcgl prepare SOURCE --root DIR --out DATASET [OPTIONS]\n"
        )
        print(f"{VERBS['prepare'].what} `trcgl prepare SOURCE --help` shows its settings.\n")
        print("\n".join(lines))
        raise SystemExit(0)
    if not arguments or arguments[0].startswith("-"):
        raise RecipeError(f"name the source first: trcgl prepare SOURCE ...; there are {known}.")
    source = arguments[0]
    if source not in SOURCES:
        raise RecipeError(f"unknown source {source!r}; there are {known}.")
    module = importlib.import_module(SOURCES[source])
    shared = Annotated[PrepareOptions, tyro.conf.arg(name="")]
    special = Annotated[module.Options, tyro.conf.arg(name="source")]
    own_size = {"size": module.Options().size} if source == "phantom" else {}  # drawn, so never enlarged unasked

    def command(
        *,
        out: Path,
        root: Path | None = None,
        options: shared = PrepareOptions(**own_size),  # noqa: B008
        source_options: special = module.Options(),  # noqa: B008
    ) -> Done:
        if root is None and source != "phantom":
            raise RecipeError(f"--root is missing: the folder of the {source} archive.")
        report = prepare(source, root, out, options, source_options)
        lines = [f"{name}: {count:,}" for name, count in report["counts"].items()]
        return Done(report, "\n".join([*lines, f"report: {out / 'report.html'}", f"next: trcgl describe {out}"]))

    command.__doc__ = f"""{first_line(module)}

    Args:
        out: The dataset folder to write; new, or an interrupted one of the same settings.
        root: Folder of the archive{" (not needed: phantoms are drawn)" if source == "phantom" else ""}.
    """
    example = next((one.strip() for one in (module.__doc__ or "").splitlines() if "trcgl prepare" in one), None)
    return command, arguments[1:], example or f"trcgl prepare {source} --root {source.upper()} --out {source}"


def describe(dataset: Path, /, *, out: Path | None = None) -> Done:
    """The long tail of a dataset in numbers and pictures.

    Args:
        dataset: A dataset folder.
        out: Where the page and the figures go; the dataset folder by default.
    """
    from trcgl.data.describe import describe

    told = describe(dataset, out)
    groups = ", ".join(f"{group} {len(findings)}" for group, findings in told["groups"].items())
    lines = [
        f"{told['name']}: {told['images']:,} images of {told['patients']:,} patients",
        f"with any finding: {told['images_with_any_finding']:,} images, {told['findings_per_image']:.2f} on average",
        f"findings: {groups}",
        f"page: {told['page']}",
    ]
    return Done(told, "\n".join(lines))
