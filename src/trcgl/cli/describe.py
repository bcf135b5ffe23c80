"""The verb `describe`."""

from pathlib import Path

from trcgl.cli.verb import Done, plain


def describe(dataset: Path, /, *, out: Path | None = None) -> Done:
    """Count and plot the findings of a dataset, and how often they occur together.

    Args:
        dataset: Dataset folder that `trcgl prepare` wrote.
        out: Folder for the page and the figures; default: the dataset folder.
    """
    from trcgl.dataset import describe as stage
    from trcgl.dataset.finding_counts import findings_text

    summary = stage.describe(dataset, out)
    train = summary["train"]
    groups = ", ".join(f"{group} {len(findings)}" for group, findings in summary["groups"].items())
    imbalance = f"{train['imbalance']:,.0f} : 1 in train" if train["imbalance"] else "not defined, no positive in train"
    lines = [
        f"{summary['name']}: {summary['images']:,} images of {summary['patients']:,} patients",
        findings_text(summary["findings"]),
        f"groups: {groups}",
        f"most to least frequent finding: {imbalance}",
        f"page: {summary['page']}",
    ]
    return Done(summary, "\n".join(lines))


VERB = plain(describe, "trcgl describe nih")
