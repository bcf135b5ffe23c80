"""The contract of every source in `SOURCES`. A source without a small archive in `source_fixtures` fails."""

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
import textwrap

import polars as pl
import pytest

from tests.dataset import source_fixtures
from trcgl.core.errors import DataError
from trcgl.dataset.manifest import SCHEMA, check_path
from trcgl.dataset.sources import SOURCES
from trcgl.dataset.store import open_dataset


@pytest.fixture(scope="module", params=SOURCES)
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, source_fixtures.build(request.param, folder)


@pytest.fixture(scope="module")
def table(case):
    name, built = case
    return read(name, built)


def read(name, built):
    module = importlib.import_module(SOURCES[name])
    return module.read(built.root, built.options or module.Options())


def test_options_are_a_frozen_dataclass_with_defaults(case):
    options = importlib.import_module(SOURCES[case[0]]).Options
    assert dataclasses.is_dataclass(options) and options.__dataclass_params__.frozen
    assert options() == options()


@pytest.mark.parametrize("module", ["trcgl.dataset.prepare", *SOURCES.values()])
def test_every_option_has_a_help_sentence(module):
    options = getattr(importlib.import_module(module), "PrepareOptions" if module.endswith("prepare") else "Options")
    body = ast.parse(textwrap.dedent(inspect.getsource(options))).body[0].body
    for field, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign):
            written = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert written and after.value.value.rstrip().endswith("."), f"{module}: {field.target.id} has no help"


def test_rows_have_the_columns_of_the_manifest_and_one_per_finding(table):
    expected = {name: kind for name, kind in SCHEMA.items() if name not in ("sha256", "row")}
    assert dict(table.rows.schema) == {**expected, **{finding: pl.Int8() for finding in table.space.findings}}


def test_every_row_is_kept_or_dropped_with_its_reason(case, table):
    assert set(table.rows["image_id"]) == set(case[1].present)
    reasons = dict(table.dropped.iter_rows())
    assert set(reasons) == set(case[1].dropped)
    assert all(part in reasons[image] for image, part in case[1].dropped.items())


def test_image_ids_are_unique(table):
    assert not table.rows["image_id"].is_duplicated().any()


def test_labels_are_those_of_the_archive_and_unknown_is_null(case, table):
    unknown = case[1].unknown
    for row in table.rows.iter_rows(named=True):
        image = row["image_id"]
        present = {finding for finding in table.space.findings if row[finding] == 1}
        blank = {finding for finding in table.space.findings if row[finding] is None}
        assert present == case[1].present[image], image
        assert blank == unknown.get(image, set()), image


def test_a_row_is_set_aside_exactly_when_it_says_nothing(case, table):
    """Nothing is present, unless the archive names no normal label: then a row of zeros says "nothing found"."""
    for row in table.rows.iter_rows(named=True):
        if case[1].present[row["image_id"]]:
            assert row["set_aside"] is None, row["image_id"]


def test_every_row_has_a_patient_a_weight_and_a_known_view(table):
    assert table.rows["patient_id"].null_count() == 0
    assert table.rows["weight"].null_count() == 0
    assert set(table.rows["view"].drop_nulls()) <= {"frontal", "lateral", "other"}
    assert set(table.rows["sex"].drop_nulls()) <= {"F", "M"}


def test_paths_stay_below_the_root(table):
    if table.load is None:
        assert table.rows["path"].null_count() == 0
    for path in table.rows["path"].drop_nulls():
        check_path(path, "rows")


def test_boxes_belong_to_kept_rows_and_known_findings(case, table):
    if case[1].boxes is None:
        assert table.boxes is None
        return
    assert table.boxes.columns == ["image_id", "finding", "x", "y", "w", "h"]
    assert table.boxes.height == case[1].boxes
    assert set(table.boxes["image_id"]) <= set(table.rows["image_id"])
    assert set(table.boxes["finding"]) <= set(table.space.findings)


def test_the_archives_own_split_is_honored(case, table):
    official = {image: split for image, split in table.rows.select("image_id", "split").iter_rows() if split}
    assert official == case[1].official


def test_reading_twice_gives_the_same(case, table):
    again = read(*case)
    assert again.rows.equals(table.rows) and again.dropped.equals(table.dropped)


def test_columns_that_are_called_like_those_of_the_manifest_are_not_used(tmp_path, case, table):
    """A body weight in a column `weight` of the user's copy must not become a weight in metrics."""
    built = source_fixtures.build(case[0], tmp_path)
    if built.table is None:
        pytest.skip("this source reads no label table")
    path = tmp_path / built.table
    content = path.read_text(encoding="utf-8-sig")
    separator = max(",;", key=content.count)
    extra = pl.DataFrame({name: ["55", "0"] for name in (*SCHEMA, "reason", "labels")})
    extra = extra.select(
        name
        for name in extra.columns
        if not re.search(rf"(^|{separator}){name}({separator}|$)", content.split("\n")[0])
    )
    lines = content.rstrip("\n").split("\n")
    for number, line in enumerate(lines):
        lines[number] = separator.join([line, *(extra.columns if number == 0 else extra.row(number % 2))])
    path.write_text("\n".join(lines))
    again = read(case[0], built)
    assert again.rows.equals(table.rows) and again.dropped.equals(table.dropped)


def test_a_missing_column_is_named_with_the_columns_that_are_there(tmp_path, case):
    built = source_fixtures.build(case[0], tmp_path)
    if built.table is None:
        pytest.skip("this source reads no label table")
    path = tmp_path / built.table
    path.write_text(path.read_text(encoding="utf-8-sig").replace(built.column, "Something", 1))
    with pytest.raises(DataError, match=built.column) as caught:
        read(case[0], built)
    assert "Something" in str(caught.value) and path.name in str(caught.value)


def test_a_root_without_the_archive_is_refused(tmp_path, case):
    if case[1].root is None:
        pytest.skip("this source has no root")
    with pytest.raises(DataError, match=r"missing|no such"):
        read(case[0], dataclasses.replace(case[1], root=tmp_path / "nowhere"))


def test_the_terms_of_the_archive_are_stated(table):
    assert table.license


def test_import_needs_no_torch():
    modules = ", ".join(SOURCES.values())
    code = f"import sys, {modules}; print('torch' in sys.modules, 'lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("manifest_only", [True, False])
def test_it_is_prepared_into_a_dataset_that_opens(tmp_path, case, table, manifest_only):
    from trcgl.dataset.prepare import PrepareOptions, prepare

    name, built = case
    options = PrepareOptions(size=32, manifest_only=manifest_only, workers=1)
    report = prepare(name, built.root, tmp_path / "out", options, built.options)
    dataset = open_dataset(tmp_path / "out")
    unusable = {} if manifest_only else built.unusable
    assert set(dataset.manifest["image_id"]) == set(built.present) - set(unusable)
    reasons = {row["image_id"]: row["reason"] for row in report["dropped"]}
    assert all(part in reasons[image] for image, part in {**built.dropped, **unusable}.items())
    assert (dataset.images is None) == manifest_only
    if not manifest_only:
        assert dataset.images.shape == (dataset.manifest.height, 32, 32)
