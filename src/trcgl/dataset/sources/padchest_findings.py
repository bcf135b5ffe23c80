"""The 30 findings of PadChest (the classes of CXR-LT 2026) and the raw labels that mean them.

Findings are in the order of falling frequency. Groups are fixed by name, so that they do not depend on a split: a head
finding is in more than 10 % of the images with any of the 30, a tail finding in less than 1 %. The archive's table has
leaf labels only, so a parent is the union of its children. Whole labels are compared.
"""

import csv
from importlib import resources
from typing import cast

from trcgl.dataset.labels import Group, LabelSpace


def _read() -> LabelSpace:
    with (resources.files("trcgl.dataset.sources") / "padchest_findings.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return LabelSpace(
        name="padchest30",
        findings=tuple(row["finding"] for row in rows),
        groups={row["finding"]: cast(Group, row["group"]) for row in rows},
        group_rule="name",
        normal="Normal",
        normal_in_means=True,
        raw={row["finding"]: tuple(row["raw labels"].split("|")) for row in rows},
    )


SPACE = _read()
