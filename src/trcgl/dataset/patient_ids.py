"""Patients whose identifiers are spelled in several ways, or are no identifiers."""

import re
import unicodedata
from collections import defaultdict

import polars as pl

from trcgl.dataset.csv_text import plain_text

NO_PATIENT = ("nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat", "-", "--", "?", "unknown")
"""Words for a patient who is not known."""
_ROUNDED = r"^\d(?:[.,]\d+)?[eE]\+?\d+$"
LARGE = 0.1
"""Share of the images from which the images of one patient, if more than 20, look like those of many."""


def one_spelling(patients: pl.Series) -> tuple[pl.Series, tuple[str, ...]]:
    """Give one patient one identifier: `1`, `1.0`, `0001` and ` 1`, or `p7` and `P7`, are the same.

    The first spelling stays. Two patients become one at worst, which never puts one patient into two splits.

    Returns:
        The identifiers, and a sentence if any were changed.
    """
    spelled: dict[str, list[str]] = defaultdict(list)
    for name in patients.unique(maintain_order=True):
        spelled[_identity(name)].append(name)
    several = [names for names in spelled.values() if len(names) > 1]
    if not several:
        return patients, ()
    first = {name: names[0] for names in several for name in names[1:]}
    example = ", ".join(several[0][:4])
    notice = f"{len(several):,} patients are spelled in several ways (such as {example}); each counts as one patient."
    return patients.replace(first), (notice,)


def doubtful(patients: pl.Series) -> tuple[str, ...]:
    """Sentences on identifiers that are rounded numbers, and on a patient with very many of the images."""
    notices = []
    if rounded := int(patients.str.contains(_ROUNDED).sum()):
        notices.append(
            f"{rounded:,} of {len(patients):,} images have a patient such as 1.23E+15: a spreadsheet has rounded the "
            "identifier, and several patients may have become one. Export the table again with that column as text."
        )
    name, images = patients.value_counts(sort=True).row(0)
    if images > max(20, LARGE * len(patients)) and not re.match(_ROUNDED, name):
        notices.append(
            f"one patient has {images:,} of {len(patients):,} images. If that identifier stands for unknown patients, "
            "leave it blank."
        )
    return tuple(notices)


def _identity(name: str) -> str:
    name = unicodedata.normalize("NFC", plain_text([name])[0] or "").casefold()
    number = re.fullmatch(r"0*(\d+)(?:\.0+)?", name)
    return number[1] if number else name
