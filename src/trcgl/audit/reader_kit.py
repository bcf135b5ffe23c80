"""A blinded page of real and drawn images to hand to radiologists, and what their ratings say.

`write_kit` writes `KIT/index.html`, one file that works offline, and `KIT/kit.json`, and in a folder of its own the key
that tells which image is what. The kit is shipped unfilled; give away the kit, keep the key. A reader saves a CSV from
the page; `read_ratings` takes it back. Real images on the page are those of patients: share it as such.
"""

import csv
import hashlib
import io
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup
from PIL import Image
from scipy.stats import binomtest

from trcgl.core import html, storage
from trcgl.core.errors import DataError
from trcgl.core.randomness import generator
from trcgl.metrics.intervals import LEVEL

SCHEMA = "trcgl.reader-kit/1"
KEY_SCHEMA = "trcgl.reader-key/1"
ORIGINS = ("real", "drawn")
CONFIDENCES = ("1", "2", "3", "4", "5")
NONE = "none of these"
COLUMNS = ("kit", "case", "real_or_drawn", "confidence", "finding", "remark")

_SHOWN = 512  # pixels on the page
_STYLE = """
.halves { display: flex; flex-wrap: wrap; gap: 1.2rem; }
.case img { width: min(32rem, 100%); height: auto; background: #000; border-radius: 6px; }
.case { min-width: 0; } .case:focus { outline: 2px solid var(--link); outline-offset: 2px; }
.case .name { display: block; font-weight: 600; margin-top: .7rem; }
.case label:not(.name) { display: inline-block; margin-right: .9rem; padding: .25rem 0; }
.case select, .case input[type=text] { font: inherit; color: inherit; background: var(--page); width: 100%;
  max-width: 22rem; padding: .3rem .4rem; border: 1px solid var(--plain); border-radius: 6px; }
.case.rated { border-color: var(--medium); } .case.rated legend::after { content: " – rated"; color: var(--medium); }
legend { font-weight: 600; padding: 0 .4rem; }
.bar { position: sticky; top: 0; z-index: 1; display: flex; align-items: center; gap: 1rem; padding: .6rem 1rem; }
button { font: inherit; padding: .35rem .8rem; border: 1px solid var(--link); border-radius: 6px; cursor: pointer;
  color: var(--link); background: var(--card); }
"""


def write_kit(
    folder: Path,
    key_folder: Path,
    images: UInt8[np.ndarray, "images height width"],
    kinds: Sequence[Literal["real", "drawn"]],
    shown: Sequence[str | None],
    findings: Sequence[str],
    *,
    seed: int,
    phantom: bool = False,
) -> str:
    """Write a kit and its key.

    Args:
        folder: of the kit.
        key_folder: of `key.json`; not in the kit's folder, nor around it.
        images: all of one size, so that size does not tell what is drawn.
        kinds: of each image.
        shown: the finding that each image is labeled or prompted with; None if none of the list, or not known.
        findings: that a reader chooses from.
        seed: of the order; not written into the kit.
        phantom: the real images are phantoms.

    Returns:
        The kit's number, which the page, the key and every CSV carry.

    Raises:
        DataError: the lists do not fit together, only one kind is there, or the key would lie with the kit.
    """
    folder, key_folder = Path(folder), Path(key_folder)
    _check(folder, key_folder, len(images), kinds, shown, findings)
    order = generator(seed, "reader kit").permutation(len(images))
    names = [f"case-{place:04d}" for place in range(1, len(order) + 1)]
    pictures = [_png(images[row]) for row in order]
    number = hashlib.sha256(b"".join(pictures) + "\n".join(findings).encode()).hexdigest()[:12]
    template = html.environment("trcgl.audit").get_template("reader_kit.html.j2")
    body = template.render(
        kit=number,
        cases=list(zip(names, map(html.png_uri, pictures), strict=True)),
        origins=ORIGINS,
        confidences=CONFIDENCES,
        findings=[*findings, NONE],
        shown=_SHOWN,
        phantom=phantom,
        script=Markup(resources.files("trcgl.audit").joinpath("reader_kit.js").read_text(encoding="utf-8")),
    )
    page = html.page("Real or drawn?", body, subtitle=f"Kit {number}", style=_STYLE, phantom=phantom)
    truth = [
        {"case": name, "row": int(row), "kind": kinds[row], "finding": shown[row]}
        for name, row in zip(names, order, strict=True)
    ]
    storage.write_json(
        key_folder / "key.json", {"schema": KEY_SCHEMA, "kit": number, "phantom": phantom, "cases": truth}
    )
    storage.write_json(
        folder / "kit.json", {"schema": SCHEMA, "kit": number, "cases": names, "findings": [*findings, NONE]}
    )
    storage.write_text(folder / "index.html", page)
    return number


def read_ratings(kit: Path, key: Path, csv_path: Path) -> dict[str, Any]:
    """What one reader's ratings say.

    Args:
        kit: folder of the kit.
        key: `key.json`, or its folder.
        csv_path: as the page saved it; a spreadsheet may have saved it again.

    Returns:
        Counts; the share of images that were told real from drawn rightly, in all and of each kind, with Wilson
        intervals over images; the same at each confidence; and how often the reader chose the finding that the image is
        labeled or prompted with, of each kind.

    Raises:
        DataError: the files do not belong together, or a row is missing, doubled or out of range.
    """
    described = storage.read_json(Path(kit) / "kit.json")
    key = Path(key) / "key.json" if Path(key).is_dir() else Path(key)
    told = storage.read_json(key)
    if described.get("schema") != SCHEMA or told.get("schema") != KEY_SCHEMA:
        raise DataError(f"{kit} and {key}: not a reader kit and its key. Give the folders that the audit wrote.")
    if told["kit"] != described["kit"]:
        raise DataError(f"{key} is the key of kit {told['kit']}, {kit} is kit {described['kit']}.")
    ratings = _ratings(Path(csv_path), described)
    cases = [one | ratings[one["case"]] for one in told["cases"]]

    def right(of: list[dict[str, Any]]) -> dict[str, Any]:
        return _share(sum(one["kind"] == one["real_or_drawn"] for one in of), len(of))

    def agrees(of: list[dict[str, Any]]) -> dict[str, Any]:
        known = [one for one in of if one["finding"] is not None]
        return _share(sum(one["finding"] == one["chosen"] for one in known), len(known))

    kinds = {kind: [one for one in cases if one["kind"] == kind] for kind in ORIGINS}
    return {
        "schema": "trcgl.reader-ratings/1",
        "kit": described["kit"],
        "ratings": storage.sha256_file(Path(csv_path)),
        "phantom": told["phantom"],
        "images": {"all": len(cases)} | {kind: len(of) for kind, of in kinds.items()},
        "called": {
            kind: {name: sum(one["real_or_drawn"] == name for one in of) for name in ORIGINS}
            for kind, of in kinds.items()
        },
        "accuracy": right(cases) | {"by_kind": {kind: right(of) for kind, of in kinds.items()}},
        "by_confidence": {level: right([one for one in cases if one["confidence"] == level]) for level in CONFIDENCES},
        "finding_agreement": {kind: agrees(of) for kind, of in kinds.items()},
        "remarks": {one["case"]: one["remark"] for one in cases if one["remark"]},
    }


def _check(
    folder: Path,
    key_folder: Path,
    count: int,
    kinds: Sequence[str],
    shown: Sequence[str | None],
    findings: Sequence[str],
) -> None:
    if not count == len(kinds) == len(shown):
        raise DataError(f"reader kit: {count} images, {len(kinds)} kinds, {len(shown)} findings shown; give one each.")
    if missing := [one for one in ORIGINS if one not in set(kinds)]:
        raise DataError(f"reader kit: no image is {missing[0]}; a blinded comparison needs real and drawn ones.")
    if unknown := set(kinds) - set(ORIGINS):
        raise DataError(f"reader kit: an image is {unknown.pop()!r}; say real or drawn.")
    if len(set(findings)) < len(findings) or NONE in findings:
        raise DataError(f"reader kit: findings must differ from each other and from {NONE!r}.")
    if unlisted := {one for one in shown if one is not None} - {*findings, NONE}:
        raise DataError(f"reader kit: {unlisted.pop()!r} is shown but not among the findings to choose from.")
    inside, around = key_folder.resolve(), folder.resolve()
    if inside == around or around in inside.parents:
        raise DataError(f"{key_folder} lies in the kit {folder}: whoever gets the kit would get the key.")


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def _ratings(path: Path, kit: dict[str, Any]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    known = set(kit["cases"])
    for line, row in _rows(path):
        where = f"{path}, row {line}"
        if row["kit"] != kit["kit"]:
            raise DataError(f"{where}: kit {row['kit']!r}; these are ratings of another kit than {kit['kit']}.")
        case = row["case"]
        if case not in known:
            raise DataError(f"{where}: the kit has no case {case!r}.")
        if case in found:
            raise DataError(f"{where}: {case} is rated twice. Keep one of the rows.")
        for column, allowed in (
            ("real_or_drawn", ORIGINS),
            ("confidence", CONFIDENCES),
            ("finding", kit["findings"]),
        ):
            if not row[column]:
                raise DataError(f"{where}: {case} has no {column}. Rate every case and save again.")
            if row[column] not in allowed:
                raise DataError(f"{where}: {column} is {row[column]!r}; it must be one of {', '.join(allowed)}.")
        found[case] = {
            "real_or_drawn": row["real_or_drawn"],
            "confidence": row["confidence"],
            "chosen": row["finding"],
            "remark": row["remark"],
        }
    if missing := [one for one in kit["cases"] if one not in found]:
        raise DataError(f"{path}: {len(missing)} of {len(known)} cases have no row, the first is {missing[0]}.")
    return found


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Number in the file and content of every row, also where a spreadsheet changed separator or encoding mark."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Save the ratings from the page first.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}). Save the ratings from the page.") from error
    header = text.splitlines()[0] if text.strip() else ""
    separator = max(",;\t", key=header.count)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        if missing := [one for one in COLUMNS if one not in (reader.fieldnames or [])]:
            raise DataError(f"{path}: no column {missing[0]!r}. Expected {', '.join(COLUMNS)}, as the page saves them.")
        rows = []
        for row in reader:
            cells = {one: (row[one] or "").strip() for one in COLUMNS}
            if any(cells.values()):
                rows.append((reader.line_num, cells))
        return rows
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error}). Save the ratings from the page again.") from error


def _share(hits: int, count: int) -> dict[str, Any]:
    if not count:
        return {"value": None, "ci": None, "n": 0, "why": "no image"}
    ends = binomtest(hits, count).proportion_ci(LEVEL, method="wilson")
    return {"value": hits / count, "ci": [float(ends.low), float(ends.high)], "n": count}
