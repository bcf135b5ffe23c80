"""`trcgl synthesize` on the command line."""

from pathlib import Path
from typing import Annotated

from trcgl.cli.verb import Chosen, Done, Verb


def synthesize(arguments: list[str]) -> Chosen:
    """The command of `trcgl synthesize`."""
    import tyro

    from trcgl.generate import synthesize as stage

    shared = Annotated[stage.SynthesizeOptions, tyro.conf.arg(name="")]
    default = stage.SynthesizeOptions()

    def command(
        generator: Path, /, *, dataset: Path, out: Path, screener: Path | None = None, options: shared = default
    ) -> Done:
        report = stage.synthesize(generator, dataset, screener, out, options)
        lines = [f"{name}: {count:,}" for name, count in report["counts"].items()] if report else []
        return Done(report, "\n".join([*lines, f"report: {out / 'report.html'}"]))

    command.__doc__ = """Draw radiographs of rare findings, and screen them.

    Args:
        generator: A generator folder that was trained on the dataset.
        dataset: The real dataset.
        out: The synthetic folder to write; new, or an interrupted one of the same settings.
        screener: A run trained on the dataset's real rows alone, whose classifier screens what is drawn.
            Needed unless --unscreened is given.
    """
    return command, arguments, None


VERB = Verb(
    "Draw radiographs of rare findings with a generator, and screen them.",
    "trcgl synthesize generator --dataset phantom --screener run --out synthetic",
    synthesize,
)
