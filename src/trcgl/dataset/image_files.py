"""From the name of an image in a table to its file: spelled otherwise, or anywhere below the root."""

import os
import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path

ENDINGS = (".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".tif", ".tiff", ".bmp", "")

SEVERAL = "several files fit"
"""Begin of the reason of `ImageFiles.find` for a name that is not unique."""


class ImageFiles:
    """The files below a folder; they are listed when a name is not found as written.

    Linked folders are followed; hidden files, and pipes and sockets, which would block a reader, are left out.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def find(self, name: str) -> tuple[str, str | None]:
        r"""Path of an image below the root, with forward slashes, and the reason if it is not found.

        A file is found by its path as written. Otherwise it is the only file whose path ends with that name, in this
        order: letter by letter, with or without its file extension; then with backslashes read as slashes
        (`img\a.png`), in any Unicode normal form and in upper or lower case. A name that is not found is returned as
        written.
        """
        with suppress(OSError):  # a name can be too long for the file system
            if (self.root / name).is_file():
                return posixpath.normpath(name), None
        wanted = posixpath.normpath(name.replace("\\", "/"))
        candidates = self._by_last_part[_folded(posixpath.basename(wanted))]
        for spell in (str, _folded):
            end = f"/{spell(wanted)}"
            whole = [path for path in candidates if f"/{spell(path)}".endswith(end)]
            bare = [path for path in candidates if f"/{spell(_stem(path))}".endswith(end)]
            if found := sorted({*whole, *bare}):
                if len(found) == 1:
                    return found[0], None
                return name, f"{SEVERAL} (such as {', '.join(found[:2])}). Write the path below --root"
        return name, self._elsewhere(wanted)

    def _elsewhere(self, wanted: str) -> str:
        """Where a file of the same name lies, for a path whose folders are others."""
        others = self._by_last_part[_folded(posixpath.basename(wanted))]
        if "/" in wanted and others:
            return f"no such file, but its name elsewhere (such as {others[0]}). Correct the path, or --root"
        return "no such file"

    @property
    def has_images(self) -> bool:
        """Whether any file is called like an image."""
        return any(posixpath.splitext(name)[1] in ENDINGS[:-1] for name in self._by_last_part)

    @cached_property
    def _by_last_part(self) -> defaultdict[str, list[str]]:
        """File name and stem, folded, to paths below the root."""
        named: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(below(self.root)):
            last = posixpath.basename(path)
            # What follows the last dot of a UID is no file extension: such a file is found by its whole name only.
            for name in {_folded(last), _folded(_stem(last))}:
                named[name].append(path)
        return named


def below(root: Path) -> Iterator[str]:
    """Paths of the regular files below a folder, with forward slashes; linked folders are followed once per branch."""

    def inside(folder: str, prefix: str, above: frozenset[str]) -> Iterator[str]:
        whole = os.path.realpath(folder)
        if whole in above:  # a link to a folder that contains it
            return
        try:
            entries = list(os.scandir(folder))
        except OSError:
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from inside(entry.path, f"{prefix}{entry.name}/", above | {whole})
            elif entry.is_file():
                yield prefix + entry.name

    yield from inside(os.fspath(root), "", frozenset())


def _stem(path: str) -> str:
    stem, ending = posixpath.splitext(path)
    return stem if ending.lower() in ENDINGS else path


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip()
