"""The verb `audit`."""

from pathlib import Path

from trcgl.cli.verb import Chosen, Done, Verb

_WHAT = "Check whether synthetic radiographs show their findings, and whether they copy training images."


def audit(arguments: list[str]) -> Chosen:
    """The command of `trcgl audit`."""
    from trcgl.audit import audit as stage

    def command(
        synthetic: Path,
        /,
        *,
        dataset: Path,
        auditor: Path,
        generator: Path | None = None,
        out: Path | None = None,
        ratings: Path | None = None,
        options: stage.AuditOptions,
    ) -> Done:
        result = stage.audit(synthetic, dataset, auditor, generator, out, options, ratings)
        width = max(map(len, result["findings"]))
        lines = []
        for finding, entry in result["findings"].items():
            verdict = entry["verdict"]
            lines.append(f"{finding.ljust(width)}  {verdict['word']} ({entry['status']}): {verdict['why']}")
            lines += [f"{' ' * width}  {caution}" for caution in verdict["cautions"]]
        folder = synthetic / "audit" if out is None else out
        lines += [f"page: {folder / 'audit.html'}", f"reader kit: {folder / 'reader_kit'}"]
        return Done(result, "\n".join(lines))

    command.__doc__ = f"""{_WHAT}

    Args:
        synthetic: A synthetic folder.
        dataset: The real dataset that the synthetic folder was generated for.
        auditor: A run trained on real images of patients that the screening classifier was not trained on.
        generator: Generator folder; default: the path recorded in the synthetic folder.
        out: Audit folder to write; default: `audit` in the synthetic folder.
        ratings: CSV file with a radiologist's ratings of the reader kit, to add to a finished audit.
    """
    return command, arguments, None


VERB = Verb(_WHAT, "trcgl audit synthetic --dataset phantom --auditor auditor", audit)
