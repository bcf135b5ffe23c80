"""The label space: the findings in their order, their groups, and the raw labels of each."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from trcgl.core.errors import DataError

Group = Literal["head", "medium", "tail"]
GROUPS: tuple[Group, ...] = ("head", "medium", "tail")
_SPELLINGS = {"pneumoperitoneo": "pneumoperitoneum"}
_NAME = re.compile(r"[A-Z][a-z]")


@dataclass(frozen=True)
class LabelSpace:
    """Findings in the order of every label column, score column and network output.

    Args:
        groups: finding to `head`, `medium` or `tail`; empty before `with_groups` for the rules `prevalence` and
            `counts`. Stored with the dataset, computed from train and never from another split.
        group_rule: `name` (given), `prevalence` (> 10 %, 1-10 %, < 1 %) or `counts` (> 1000, 100-1000, < 100 rows).
        normal: the finding that says "nothing found", which makes every other finding a known negative.
        normal_in_means: whether `normal` counts in mAP, mAUC and the group means.
        raw: finding to the raw labels of the archive that mean it; whole labels are compared.
    """

    name: str
    findings: tuple[str, ...]
    groups: Mapping[str, Group] = field(default_factory=dict)
    group_rule: Literal["name", "prevalence", "counts"] = "prevalence"
    normal: str | None = None
    normal_in_means: bool = True
    raw: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.findings:
            raise DataError(f"label space {self.name}: no finding is named.")
        if len(set(self.findings)) != len(self.findings):
            twice = sorted({finding for finding in self.findings if self.findings.count(finding) > 1})
            raise DataError(f"label space {self.name}: named twice: {', '.join(twice)}.")
        for what, names in (("groups", self.groups), ("raw labels", self.raw), ("normal", [self.normal])):
            if unknown := sorted(set(filter(None, names)) - set(self.findings)):
                raise DataError(f"label space {self.name}: {what} of unknown findings: {', '.join(unknown)}.")

    @property
    def scored(self) -> tuple[str, ...]:
        """The findings that count in means of metrics."""
        return tuple(finding for finding in self.findings if finding != self.normal or self.normal_in_means)

    def in_group(self, group: str) -> tuple[str, ...]:
        """The scored findings of one group, in order."""
        return tuple(finding for finding in self.scored if self.groups.get(finding) == group)

    def index(self, finding: str) -> int:
        """Column of a finding."""
        try:
            return self.findings.index(finding)
        except ValueError:
            raise DataError(
                f"unknown finding {finding!r}: label space {self.name} has {', '.join(self.findings)}."
            ) from None

    def with_groups(self, positives: Mapping[str, int], rows: int) -> "LabelSpace":
        """The label space with `groups` by its rule, from positives per finding among `rows` rows with any finding."""
        if self.group_rule == "name":
            return self
        high, low = (0.10 * rows, 0.01 * rows) if self.group_rule == "prevalence" else (1000, 100)
        groups: dict[str, Group] = {}
        for finding in self.findings:
            count = positives[finding]
            groups[finding] = "head" if count > high else "medium" if count >= low else "tail"
        return replace(self, groups=groups)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON value; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "LabelSpace":
        """The inverse of `to_dict`."""
        try:
            raw = {finding: tuple(names) for finding, names in value["raw"].items()}
            return cls(**{**value, "findings": tuple(value["findings"]), "raw": raw})
        except (TypeError, KeyError) as error:
            raise DataError(f"the stored label space cannot be read: {error}. Prepare the dataset again.") from error


def phrase(finding: str) -> str:
    """Name of a finding within a sentence: `Pleural_Thickening` is pleural thickening; abbreviations stay."""
    words = [word.lower() if _NAME.match(word) else word for word in finding.replace("_", " ").split()]
    return " ".join(_SPELLINGS.get(word, word) for word in words)
