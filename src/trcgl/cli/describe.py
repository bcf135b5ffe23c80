"""`trcgl describe` on the command line."""

from pathlib import Path

from trcgl.cli.verb import Done, Verb, plain


def describe(dataset: Path, /, *, out: Path | None = None) -> Done:
    """The long tail of a dataset in numbers and pictures.

    Args:
        dataset: A dataset folder.
        out: Where the page and the figures go; the dataset folder by default.
    """
    from trcgl.dataset import describe as stage

    told = stage.describe(dataset, out)
    groups = ", ".join(f"{group} {len(findings)}" for group, findings in told["groups"].items())
    lines = [
        f"{told['name']}: {told['images']:,} images of {told['patients']:,} patients",
        f"with any finding: {told['images_with_any_finding']:,} images, {told['findings_per_image']:.2f} on average",
        f"findings: {groups}",
        f"page: {told['page']}",
    ]
    return Done(told, "\n".join(lines))


VERB = Verb(
    "The long tail of a dataset in numbers and pictures.",
    "trcgl describe nih",
    plain(describe),
)
