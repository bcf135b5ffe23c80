"""`synthesize` and `audit`."""

from pathlib import Path
from typing import Annotated

from trcgl.verbs.verb import Command, Done


def synthesize(arguments: list[str]) -> tuple[Command, list[str], str | None]:
    """The command that draws."""
    import tyro

    from trcgl.generate.synthesize import SynthesizeOptions, synthesize

    shared = Annotated[SynthesizeOptions, tyro.conf.arg(name="")]
    default = SynthesizeOptions()

    def command(
        generator: Path, /, *, dataset: Path, out: Path, screener: Path | None = None, options: shared = default
    ) -> Done:
        told = synthesize(generator, dataset, screener, out, options)
        lines = [f"{name}: {count:,}" for name, count in told["counts"].items()] if told else []
        return Done(told, "\n".join([*lines, f"report: {out / 'report.html'}"]))

    command.__doc__ = """Draw radiographs of rare findings, and screen them.

    Args:
        generator: A generator folder that was trained on the dataset.
        dataset: The real dataset.
        out: The synthetic folder to write; new, or an interrupted one of the same settings.
        screener: A run trained on the dataset's real rows alone, whose classifier screens what is drawn.
    """
    return command, arguments, None


def audit(arguments: list[str]) -> tuple[Command, list[str], str | None]:
    """The command that audits."""
    import tyro

    from trcgl.audit.audit import AuditOptions
    from trcgl.audit.audit import audit as judge

    shared = Annotated[AuditOptions, tyro.conf.arg(name="")]
    default = AuditOptions()

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
        told = judge(synthetic, dataset, auditor, generator, out, options, ratings)
        width = max(map(len, told["findings"]))
        lines = [f"{finding:<{width}}  {one['verdict']['word']}" for finding, one in told["findings"].items()]
        return Done(told, "\n".join([*lines, f"report: {(out or synthetic / 'audit') / 'audit.html'}"]))

    command.__doc__ = """Audit drawn images: label fidelity, fidelity, memorization, diversity, each beside its null.

    Args:
        synthetic: A synthetic folder.
        dataset: The real dataset that it was drawn for.
        auditor: An evaluated run on real patients that the screening classifier did not see.
        generator: The generator that drew it; where it was by default.
        out: The audit folder to write; `audit` in the synthetic folder by default.
        ratings: A CSV of the reader kit, filled in by radiologists; read into a finished audit.
    """
    return command, arguments, None
