"""Numbered files of a long job, so that an interruption loses little."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Parts:
    """Files that each hold the results of consecutive items.

    A part is written whole or not at all (`trcgl.core.storage.atomic`), and a part that exists is not computed again.

    Args:
        size: items per part; the last part may hold fewer.
    """

    folder: Path
    items: int
    size: int
    suffix: str = ".npy"

    def __len__(self) -> int:
        return -(-self.items // self.size)

    def rows(self, part: int) -> range:
        """Indices of the items of a part."""
        return range(part * self.size, min((part + 1) * self.size, self.items))

    def path(self, part: int) -> Path:
        """File of a part."""
        return self.folder / f"part-{part:06d}{self.suffix}"

    def missing(self) -> list[int]:
        """Numbers of the parts that do not exist yet."""
        return [part for part in range(len(self)) if not self.path(part).exists()]

    def remove_unfinished(self) -> None:
        """Remove what killed processes left of parts that they were writing; call it while no process writes."""
        for path in self.folder.glob(".part-*.part"):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all parts, finished or not, and the folder if nothing else is in it."""
        clear_parts(self.folder)


def clear_parts(folder: Path) -> None:
    """Remove all parts of a folder, finished or not, and the folder if nothing else is in it."""
    for pattern in ("part-*", ".part-*.part"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
