"""The verb `synthesize`."""

from pathlib import Path

from trcgl.cli.verb import Chosen, Done, Verb

_WHAT = "Generate synthetic radiographs of rare findings and screen them."


def synthesize(arguments: list[str]) -> Chosen:
    """The command of `trcgl synthesize`."""
    from trcgl.generate import synthesize as stage

    def command(
        generator: Path,
        /,
        *,
        dataset: Path,
        out: Path,
        screener: Path | None = None,
        options: stage.SynthesizeOptions,
    ) -> Done:
        report = stage.synthesize(generator, dataset, screener, out, options)
        counts = ", ".join(f"{name}: {count:,}" for name, count in report.get("counts", {}).items())
        return Done(report, f"{counts}\nreport: {out / 'report.html'}" if counts else "")

    command.__doc__ = f"""{_WHAT}

    Args:
        generator: Generator folder, trained on the dataset.
        dataset: Dataset folder with the real images.
        out: Synthetic folder to write; an interrupted synthesis with the same settings is resumed.
        screener: Run folder of the screening classifier, trained on the dataset's real images alone;
            required unless --unscreened is given.
    """
    return command, arguments, None


VERB = Verb(_WHAT, "trcgl synthesize generator --dataset phantom --screener run --out synthetic", synthesize)
