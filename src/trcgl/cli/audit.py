"""`trcgl audit` on the command line."""

from pathlib import Path
from typing import Annotated

from trcgl.cli.verb import Chosen, Done, Verb


def audit(arguments: list[str]) -> Chosen:
    """The command of `trcgl audit`."""
    import tyro

    from trcgl.audit import audit as stage

    shared = Annotated[stage.AuditOptions, tyro.conf.arg(name="")]
    default = stage.AuditOptions()

    def command(
        synthetic: Path,
        /,
        *,
        dataset: Path,
        auditor: Path,
        generator: Path | None = None,
        out: Path | None = None,
        ratings: Path | None = None,
        options: shared = default,
    ) -> Done:
        told = stage.audit(synthetic, dataset, auditor, generator, out, options, ratings)
        rows = [(name, one["verdict"], one["status"]) for name, one in told["findings"].items()]
        width = max(len(name) for name, _, _ in rows)
        lines = [f"{name.ljust(width)}  {one['word']} ({status}): {one['why']}" for name, one, status in rows]
        lines += [f"{' ' * width}  {caution}" for _, one, _ in rows for caution in one["cautions"]]
        folder = synthetic / "audit" if out is None else out
        return Done(told, "\n".join([*lines, f"page: {folder / 'audit.html'}", f"reader kit: {folder / 'reader_kit'}"]))

    command.__doc__ = """Ask whether drawn radiographs show what they claim, and whether they are copies.

    Args:
        synthetic: A synthetic folder.
        dataset: The real dataset that it was drawn for.
        auditor: A run trained on real patients that the screening classifier did not see.
        generator: The generator that drew it; where it was when it drew, by default.
        out: The audit folder to write; `audit` within the synthetic folder by default.
        ratings: Ratings of the reader kit (CSV), to be read into a finished audit.
    """
    return command, arguments, None


VERB = Verb(
    "Ask whether drawn radiographs show what they claim, and whether they are copies.",
    "trcgl audit synthetic --dataset phantom --auditor auditor",
    audit,
)
