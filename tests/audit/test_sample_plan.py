"""An audit continues the plan of the synthetic folder, generates its counterparts, and generates no image twice."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

from tests.audit.small_audit import OPTIONS, write_small
from tests.dataset.small_dataset import SIDE, SPACE
from trcgl.audit.sample_plan import (
    NORMALS,
    SWEEP,
    WITH,
    WITHOUT,
    Store,
    first,
    main_sheets,
    sample_sheets,
    sampled_alike,
    side_sheets,
    without,
)
from trcgl.core.errors import Interrupted
from trcgl.core.storage import read_json
from trcgl.dataset.store import open_dataset
from trcgl.dataset.synthetic_rows import read_provenance
from trcgl.generate import sampling_run
from trcgl.generate.folder import load
from trcgl.generate.prompts import PromptFormat
from trcgl.generate.sampling_run import SamplingSettings

SETTINGS = SamplingSettings(SIDE, OPTIONS.steps, OPTIONS.guided_to, "dpm++2m", 8)
NETWORK = {"precision": "32-true", "device": torch.device("cpu")}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(sampling_run, "IMAGES_PER_PART", 4)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("small"))


@pytest.fixture
def generated(monkeypatch):
    """Seeds of the generated images, in order."""
    seeds, sample = [], sampling_run.sample

    def counted(generator, condition, empty, wanted, **how):
        seeds.extend(wanted)
        return sample(generator, condition, empty, wanted, **how)

    monkeypatch.setattr(sampling_run, "sample", counted)
    return seeds


def sheets_of(small, each=9, guidance=OPTIONS.guidance, **guidance_for):
    dataset = open_dataset(small.dataset)
    scales = {"guidance": guidance, "guidance_for": guidance_for}
    options = {"seed": OPTIONS.seed, "views": "auto", "from_real": False, **scales}
    return main_sheets(dataset, PromptFormat(SPACE), ("Hernia", "Edema"), each, options, True)


def store_of(small, folder, generator=None, audited_in=OPTIONS.precision, **changed):
    provenance, images = read_provenance(small.synthetic), np.load(small.synthetic / "images.npy")
    options = dataclasses.asdict(dataclasses.replace(OPTIONS, **changed))
    digest = generator or read_json(small.generator / "generator.json")["digest"]
    return Store(folder, sampled_alike(provenance, options, digest, audited_in), images, True)


def test_every_finding_has_its_images_and_each_image_its_counterpart(small):
    sheets = {sheet.name: sheet.rows for sheet in sheets_of(small)}
    assert list(sheets) == [WITH, WITHOUT, NORMALS]
    for finding in ("Hernia", "Edema"):
        assert sheets[WITH].filter(pl.col("target") == finding).height == 9
    assert sheets[NORMALS]["prompt"].unique().to_list() == ["normal chest radiograph"]
    pairs = zip(sheets[WITH].iter_rows(named=True), sheets[WITHOUT].iter_rows(named=True), strict=True)
    for one, other in pairs:
        assert (one["seed"], one["target"], one["patient_id"]) == (other["seed"], other["target"], other["patient_id"])
        left = [finding for finding in one["findings"] if finding != one["target"]]
        assert other["findings"] == (left or ["Normal"])
        assert one["target"].lower() in one["prompt"]
        assert one["target"].lower() not in other["prompt"]


def test_where_nothing_is_left_and_there_is_no_normal_label_the_radiograph_is_plain(small):
    plain = dataclasses.replace(SPACE, normal=None, normal_in_means=True)
    rows = sheets_of(small)[0].rows
    alone = rows.filter(pl.col("findings").list.len() == 1)
    assert alone.height
    left = without(alone, PromptFormat(plain))
    assert left["findings"].list.len().sum() == 0
    assert left["prompt"].unique().to_list() == ["chest radiograph"]


def test_side_sheets_hold_the_first_images_of_each_finding_in_other_ways(small):
    with_it = sheets_of(small)[0].rows
    sheets = side_sheets(with_it, PromptFormat(SPACE), sweep_each=4, handwritten_each=5, learned=True)
    by_name = {sheet.name: sheet for sheet in sheets}
    assert len(sheets) == 2 + 2 * (len(SWEEP) - 1)
    assert not any("guidance-5-" in name for name in by_name)
    assert by_name["handwritten-with"].rows.equals(first(with_it, 5))
    assert not by_name["handwritten-with"].context
    assert by_name["guidance-7.5-without"].rows["guidance"].unique().to_list() == [7.5]
    assert by_name["guidance-7.5-without"].rows.height == 8
    assert side_sheets(with_it, PromptFormat(SPACE), sweep_each=0, handwritten_each=5, learned=False) == []


def test_a_finding_with_a_scale_of_its_own_keeps_it_with_and_without(small):
    sheets = sheets_of(small, Hernia=9.0)
    for sheet in sheets[:2]:
        scales = sheet.rows.select("target", "guidance").unique().sort("target").rows()
        assert scales == [("Edema", OPTIONS.guidance), ("Hernia", 9.0)]
    assert sheets[2].rows["guidance"].unique().to_list() == [OPTIONS.guidance]
    swept = side_sheets(sheets[0].rows, PromptFormat(SPACE), sweep_each=4, handwritten_each=0, learned=True)
    assert len(swept) == 2 * len(SWEEP)  # none of the scales is that of all


def test_images_of_the_synthetic_folder_are_taken_over_pixel_for_pixel(small, tmp_path, generated):
    sheet, store = sheets_of(small)[0], store_of(small, tmp_path / "sheets")
    sample_sheets(load(small.generator), [sheet], store, SETTINGS, **NETWORK)
    assert len(generated) == 2 * (9 - 6)
    images, there = store.read(sheet), pl.read_parquet(small.synthetic / "provenance.parquet")
    rows = dict(zip(there["image_id"], range(there.height), strict=True))
    taken = [(place, rows[name]) for place, name in enumerate(sheet.rows["image_id"]) if name in rows]
    assert len(taken) == 12
    for place, row in taken:
        assert np.array_equal(images[place], store.images[row])


def test_what_is_taken_over_is_what_would_have_been_generated(small, tmp_path):
    sheet = sheets_of(small)[0]
    taken, alone = store_of(small, tmp_path / "taken"), store_of(small, tmp_path / "alone", generator="x")
    assert alone.reusable.height == 0
    for store in (taken, alone):
        sample_sheets(load(small.generator), [sheet], store, SETTINGS, **NETWORK)
    difference = np.abs(taken.read(sheet).astype(int) - alone.read(sheet))
    assert difference.max() <= 1  # the rounding of another batch


@pytest.mark.parametrize(
    "changed", [{"generator": "x"}, {"steps": 3}, {"solver": "ddim"}, {"precision": "bf16"}, {"audited_in": "bf16"}]
)
def test_images_that_were_generated_otherwise_are_not_taken_over(small, tmp_path, changed):
    assert store_of(small, tmp_path, **changed).reusable.height == 0


def test_images_at_another_guidance_or_without_tokens_are_not_taken_over(small, tmp_path):
    store, with_it = store_of(small, tmp_path / "sheets"), sheets_of(small)[0]
    assert (store.taken_over(with_it) >= 0).sum() == 12
    assert (store.taken_over(sheets_of(small, guidance=OPTIONS.guidance + 1)[0]) == -1).all()
    assert (store.taken_over(sheets_of(small, Hernia=9.0)[0]) >= 0).sum() == 6
    assert (store.taken_over(dataclasses.replace(with_it, context=False)) == -1).all()
    plain = dataclasses.replace(store, context=False)  # a folder that was generated without tokens
    assert (plain.taken_over(dataclasses.replace(with_it, context=False)) >= 0).sum() == 12


def test_a_finding_that_keeps_the_balance_is_generated_as_often_as_the_others(small):
    dataset = open_dataset(small.dataset)
    head = dataset.space.in_group("head")[0]
    rows = main_sheets(dataset, PromptFormat(dataset.space), ("Hernia", head), 5, dataclasses.asdict(OPTIONS), True)[
        0
    ].rows
    assert rows["target"].value_counts().sort("target").rows() == sorted([("Hernia", 5), (head, 5)])


def test_a_finished_sheet_is_not_generated_again_and_an_interrupted_one_continues(
    small, tmp_path, generated, monkeypatch
):
    sheets, store = sheets_of(small), store_of(small, tmp_path / "sheets")
    sample_sheets(load(small.generator), sheets[:1], store, SETTINGS, **NETWORK)
    before = len(generated)

    counted = sampling_run.sample

    def stops(generator, condition, empty, wanted, **how):
        if len(generated) >= before + 8:
            raise Interrupted(2, "stop")
        return counted(generator, condition, empty, wanted, **how)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(sampling_run, "sample", stops)
        sample_sheets(load(small.generator), sheets, store, SETTINGS, **NETWORK)
    assert not store.path(sheets[1]).exists()
    sample_sheets(load(small.generator), sheets, store, SETTINGS, **NETWORK)
    assert len(generated) == before + 18 + 3  # the counterparts, and what the synthetic folder lacks of the normal ones
    assert sorted(path.name for path in store.folder.iterdir()) == ["normals.npy", "with.npy", "without.npy"]
    sample_sheets(load(small.generator), sheets, store, SETTINGS, **NETWORK)
    assert len(generated) == before + 21


def test_the_handwritten_prompt_leaves_the_tokens_out_and_puts_them_back(small, tmp_path):
    generator, store = load(small.generator), store_of(small, tmp_path / "sheets", generator="x")
    with_it = sheets_of(small)[0]
    sheets = side_sheets(with_it.rows, PromptFormat(SPACE), sweep_each=0, handwritten_each=9, learned=True)
    sample_sheets(generator, [with_it, *sheets], store, SETTINGS, **NETWORK)
    assert generator.context.enabled
    assert np.abs(store.read(with_it).astype(int) - store.read(sheets[0])).mean() > 0
    assert sum(sheet.rows.height for sheet in sheets) == 36
