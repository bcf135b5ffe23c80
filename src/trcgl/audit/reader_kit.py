"""The reader kit: a blinded page of real and synthetic images for radiologists, and the evaluation of their ratings.

`write_kit` writes `KIT/index.html`, one file that works offline, and `KIT/kit.json`; the key that says which image is
synthetic goes into a folder of its own. Hand out the kit, keep the key. A reader saves a CSV file from the page;
`read_ratings` reads it. The kit contains real images of patients: give it only to people who may see them.
"""

import hashlib
import io
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import UInt8
from markupsafe import Markup
from PIL import Image
from scipy.stats import binomtest

from trcgl.audit.sample_plan import NORMALS, WITH
from trcgl.audit.scored_images import ScoredImages
from trcgl.core import html, storage
from trcgl.core.errors import DataError
from trcgl.core.randomness import generator
from trcgl.metrics.intervals import LEVEL

SCHEMA = "trcgl.reader-kit/1"
KEY_SCHEMA = "trcgl.reader-key/1"
KIT, KEY = "reader_kit", "reader_key"
ORIGINS = ("real", "synthetic")
CONFIDENCES = ("1", "2", "3", "4", "5")
NONE = "none of these"
COLUMNS = ("kit", "case", "real_or_synthetic", "confidence", "finding", "remark")
EACH = 8  # real and synthetic images per finding, and normal images of either kind
_RENAMED = {"real_or_drawn": "real_or_synthetic", "drawn": "synthetic"}  # names in kits and ratings of 0.1.0

_SHOWN = 512  # side of an image on the page in pixels


def write_kit(
    folder: Path,
    key_folder: Path,
    images: UInt8[np.ndarray, "images height width"],
    kinds: Sequence[str],
    shown: Sequence[str | None],
    findings: Sequence[str],
    *,
    seed: int,
    phantom: bool = False,
) -> str:
    """Write a kit and its key, and return the kit's number, which the page, the key and every CSV file contain.

    All images have one size, so that size does not give away which are synthetic; the seed of their order is not
    written into the kit. Each image has a kind (`real` or `synthetic`) and the finding that it is labeled or prompted
    with (None if unknown or not among the findings that a reader chooses from).
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
        script=Markup(_resource("reader_kit.js")),
    )
    style = _resource("reader_kit.css")
    page = html.page("Real or synthetic?", body, subtitle=f"Kit {number}", style=style, phantom=phantom)
    truth = [
        {"case": name, "row": int(row), "kind": kinds[row], "finding": shown[row]}
        for name, row in zip(names, order, strict=True)
    ]
    key = {"schema": KEY_SCHEMA, "kit": number, "phantom": phantom, "cases": truth}
    storage.write_json(key_folder / "key.json", key)
    kit = {"schema": SCHEMA, "kit": number, "cases": names, "findings": [*findings, NONE]}
    storage.write_json(folder / "kit.json", kit)
    storage.write_text(folder / "index.html", page)
    return number


def write_reader_kit(out: Path, images: ScoredImages, seed: int) -> dict[str, Any]:
    """Write the kit of an audit: equally many real held-out and synthetic images of every finding, and normals."""
    groups = [
        (finding, images.positives(images.held_out, finding), WITH, images.sheets[WITH].rows_of(finding))
        for finding in images.findings
    ]
    if NORMALS in images.sheets:
        rows = np.arange(images.sheets[NORMALS].rows.height)
        groups.append((NONE, images.normals(images.held_out), NORMALS, rows))
    cases: list[tuple[np.ndarray, str, str]] = []  # image, kind, finding
    taken = np.empty(0, np.int64)
    for finding, real, sheet, synthetic in groups:
        real = np.setdiff1d(real, taken)  # an image shown for two findings would be recognized as real
        count = min(EACH, len(real), len(synthetic))
        rng = generator(seed, "reader kit", finding)
        chosen, generated = (np.sort(rng.permutation(rows)[:count]) for rows in (real, synthetic))
        taken = np.concatenate([taken, chosen])
        cases += [(image, "real", finding) for image in images.pixels(images.held_out, chosen)]
        cases += [(image, "synthetic", finding) for image in images.sheets[sheet].images[generated]]
    if not cases:
        return {"kit": None, "why": "no held-out image has an audited finding"}
    pixels, kinds, shown = zip(*cases, strict=True)
    stacked, phantom = np.stack(pixels), images.phantom
    number = write_kit(out / KIT, out / KEY, stacked, kinds, shown, images.findings, seed=seed, phantom=phantom)
    return {"kit": number, "images": len(pixels), "folder": KIT, "key": KEY}


def read_ratings(kit: Path, key: Path, csv_path: Path) -> dict[str, Any]:
    """Evaluate the ratings of one reader; the CSV file may have been saved again by a spreadsheet.

    The key is `key.json` or its folder. The result has counts; the share of images that were correctly called real or
    synthetic (in total, of each kind, at each confidence), with Wilson intervals over images; and how often the reader
    chose the labeled or prompted finding, for images of each kind.
    """
    described = storage.read_json(Path(kit) / "kit.json")
    key = Path(key) / "key.json" if Path(key).is_dir() else Path(key)
    truth = storage.read_json(key)
    if described.get("schema") != SCHEMA or truth.get("schema") != KEY_SCHEMA:
        raise DataError(f"{kit} and {key}: not a reader kit and its key. Give the folders that the audit wrote.")
    if truth["kit"] != described["kit"]:
        raise DataError(f"{key} is the key of kit {truth['kit']}, {kit} is kit {described['kit']}.")
    ratings = _ratings(Path(csv_path), described)
    cases = [
        {**rating, "chosen": rating["finding"], **case, "kind": _RENAMED.get(case["kind"], case["kind"])}
        for case in truth["cases"]
        for rating in [ratings[case["case"]]]
    ]

    def correct(some: list[dict[str, Any]]) -> dict[str, Any]:
        return _share(sum(case["kind"] == case["real_or_synthetic"] for case in some), len(some))

    def agreement(some: list[dict[str, Any]]) -> dict[str, Any]:
        known = [case for case in some if case["finding"] is not None]
        return _share(sum(case["finding"] == case["chosen"] for case in known), len(known))

    kinds, levels = (
        {value: [case for case in cases if case[column] == value] for value in values}
        for column, values in (("kind", ORIGINS), ("confidence", CONFIDENCES))
    )
    return {
        "schema": "trcgl.reader-ratings/1",
        "kit": described["kit"],
        "ratings": storage.sha256_file(Path(csv_path)),
        "phantom": truth["phantom"],
        "images": {"all": len(cases)} | {kind: len(some) for kind, some in kinds.items()},
        "called": {
            kind: {name: sum(case["real_or_synthetic"] == name for case in some) for name in ORIGINS}
            for kind, some in kinds.items()
        },
        "accuracy": correct(cases) | {"by_kind": {kind: correct(some) for kind, some in kinds.items()}},
        "by_confidence": {level: correct(some) for level, some in levels.items()},
        "finding_agreement": {kind: agreement(some) for kind, some in kinds.items()},
        "remarks": {case["case"]: case["remark"] for case in cases if case["remark"]},
    }


def _check(
    folder: Path, key: Path, count: int, kinds: Sequence[str], shown: Sequence[str | None], findings: Sequence[str]
) -> None:
    if not count == len(kinds) == len(shown):
        raise DataError(f"reader kit: {count} images, {len(kinds)} kinds, {len(shown)} findings shown; give one each.")
    if missing := [origin for origin in ORIGINS if origin not in set(kinds)]:
        raise DataError(f"reader kit: no image is {missing[0]}; a blinded comparison needs real and synthetic ones.")
    if unknown := set(kinds) - set(ORIGINS):
        raise DataError(f"reader kit: an image is {unknown.pop()!r}; give real or synthetic.")
    if len(set(findings)) < len(findings) or NONE in findings:
        raise DataError(f"reader kit: findings must differ from each other and from {NONE!r}.")
    if unlisted := {finding for finding in shown if finding is not None} - {*findings, NONE}:
        raise DataError(f"reader kit: {unlisted.pop()!r} is shown but not among the findings to choose from.")
    inside, around = key.resolve(), folder.resolve()
    if inside == around or around in inside.parents:
        raise DataError(f"{key} is inside the kit {folder}: whoever gets the kit would get the key.")


def _resource(name: str) -> str:
    return resources.files("trcgl.audit").joinpath(name).read_text(encoding="utf-8")


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def _ratings(path: Path, kit: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    known = set(kit["cases"])
    for row in _rows(path):
        where = f"{path}, row {row['line']}"
        if row["kit"] != kit["kit"]:
            raise DataError(f"{where}: kit {row['kit']!r}; these are ratings of another kit than {kit['kit']}.")
        case = row["case"]
        if case not in known:
            raise DataError(f"{where}: the kit has no case {case!r}.")
        if case in found:
            raise DataError(f"{where}: {case} is rated twice. Keep one of the rows.")
        allowed_values = {"real_or_synthetic": ORIGINS, "confidence": CONFIDENCES, "finding": kit["findings"]}
        for column, allowed in allowed_values.items():
            if not row[column]:
                raise DataError(f"{where}: {case} has no {column}. Rate every case and save again.")
            if row[column] not in allowed:
                raise DataError(f"{where}: {column} is {row[column]!r}; it must be one of {', '.join(allowed)}.")
        found[case] = row
    if missing := [case for case in kit["cases"] if case not in found]:
        raise DataError(f"{path}: {len(missing)} of {len(known)} cases have no row, the first is {missing[0]}.")
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    """Line number and cells of every row, also if a spreadsheet changed the separator or the byte-order mark."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        table = pl.read_csv(text.encode(), separator=separator, infer_schema=False, truncate_ragged_lines=True)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Save the ratings from the page first.") from error
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: not a CSV file in UTF-8 ({reason}). Save the ratings from the page again.") from error
    table = table.rename(_RENAMED, strict=False)
    if missing := [column for column in COLUMNS if column not in table.columns]:
        raise DataError(f"{path}: no column {missing[0]!r}. Expected {', '.join(COLUMNS)}, as the page saves them.")
    table = table.select(pl.col(COLUMNS).fill_null("").str.strip_chars())
    table = table.with_columns(pl.col("real_or_synthetic").replace(_RENAMED))
    rows = table.with_row_index("line", offset=2).filter(pl.any_horizontal(pl.col(COLUMNS) != ""))
    return rows.to_dicts()


def _share(hits: int, count: int) -> dict[str, Any]:
    if not count:
        return {"value": None, "ci": None, "n": 0, "why": "no image"}
    ends = binomtest(hits, count).proportion_ci(LEVEL, method="wilson")
    return {"value": hits / count, "ci": [float(ends.low), float(ends.high)], "n": count}
