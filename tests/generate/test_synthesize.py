"""A synthetic folder is a dataset folder that records where every image came from; no image is sampled twice."""

import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from tests.dataset.small_dataset import SIDE, SPACE, write_dataset
from tests.generate import processes
from tests.generate.small_generator import write_generator, write_screener
from tests.pages import assert_fits
from trcgl.cli.main import main
from trcgl.core.errors import CheckpointError, DataError, RecipeError
from trcgl.core.storage import read_json, sha256_file
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import open_dataset
from trcgl.generate import sampling_run
from trcgl.generate.screen import KEPT, SCORES
from trcgl.generate.synthesize import SynthesizeOptions, synthesize

OPTIONS = SynthesizeOptions(each=7, steps=3, batch_size=3, devices=1, accelerator="cpu")
IMAGES = 14  # seven of the only tail finding, and as many of the normal label and the head finding


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(sampling_run, "IMAGES_PER_PART", 4)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Generator, dataset and screener."""
    folder = tmp_path_factory.mktemp("inputs")
    dataset = write_dataset(folder / "small", train=60)
    return write_generator(folder / "generator", dataset), dataset, write_screener(folder / "run", dataset)


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """A synthetic folder that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "synthetic"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling_run, "IMAGES_PER_PART", 4)
        synthesize(*inputs, out, OPTIONS)
    return out


@pytest.fixture
def sampled(monkeypatch):
    """Seeds of the sampled images, in order."""
    seeds, sample = [], sampling_run.sample

    def counted(generator, condition, empty, wanted, **how):
        seeds.extend(wanted)
        return sample(generator, condition, empty, wanted, **how)

    monkeypatch.setattr(sampling_run, "sample", counted)
    return seeds


def same(first, second):
    frames = [pl.read_parquet(folder / "provenance.parquet") for folder in (first, second)]
    images = [np.load(folder / "images.npy") for folder in (first, second)]
    return np.array_equal(*images) and frames[0].equals(frames[1])


def provenance(folder):
    return pl.read_parquet(folder / "provenance.parquet")


def test_each_kind_of_prompt_gives_other_images_of_the_same_plan(inputs, whole, tmp_path):
    images = {"learned": np.load(whole / "images.npy")}
    for kind in ("handwritten", "shared_tokens", "per_finding_tokens"):
        synthesize(*inputs, tmp_path / kind, dataclasses.replace(OPTIONS, prompt=kind))
        images[kind] = np.load(tmp_path / kind / "images.npy")
        assert provenance(tmp_path / kind)["prompt"].equals(provenance(whole)["prompt"])
        assert read_json(tmp_path / kind / "dataset.json")["synthetic"]["options"]["prompt"] == kind
    assert len({stack.tobytes() for stack in images.values()}) == 4


def test_a_synthetic_folder_opens_as_a_dataset(whole):
    synthetic = open_dataset(whole)
    assert synthetic.info["source"] == "synthetic"
    assert synthetic.name == "synthetic"
    assert synthetic.space == SPACE
    assert synthetic.images.shape == (IMAGES, SIDE, SIDE)
    assert synthetic.manifest["split"].unique().to_list() == ["train"]
    assert synthetic.manifest["label_source"].unique().to_list() == ["synthetic"]
    assert synthetic.manifest["set_aside"].null_count() == IMAGES
    assert synthetic.split("train").height == IMAGES


def test_files_are_those_of_a_dataset_folder_and_the_provenance(whole):
    files = ["dataset.json", "images.npy", "manifest.parquet", "provenance.parquet", "report.html", "report.json"]
    assert sorted(path.name for path in whole.iterdir()) == [*files, "synthesize.json"]
    assert {name: sha256_file(whole / name) for name in files[1:]} == {
        name: known["sha256"] for name, known in read_json(whole / "dataset.json")["files"].items()
    }


def test_what_was_asked_for_is_present_and_all_else_unknown_unless_normal_was_asked_for(whole):
    rows = open_dataset(whole).manifest.join(provenance(whole), on="image_id")
    normal = rows.filter(pl.col("target") == "Normal")
    assert normal.select(SPACE.findings).unique().rows() == [(0, 0, 0, 1)]
    for row in rows.filter(pl.col("target") != "Normal").iter_rows(named=True):
        named = [finding for finding in SPACE.findings if finding.lower() in row["prompt"]]
        assert row["target"] in named
        assert {name: row[name] for name in SPACE.findings} == {
            name: 1 if name in named else None for name in SPACE.findings
        }


def test_every_row_has_its_source_and_how_it_was_sampled(whole, inputs):
    real, rows = open_dataset(inputs[1]).split("train"), provenance(whole)
    assert rows.columns == [
        *("image_id", "source_image_id", "target", "view", "prompt", "left_out", "seed", "guidance"),
        *("pixel_source_image", "pixel_source_patient", "strength"),
        *("guided_to", "steps", "solver", "generator", "base"),
        *SCORES,
        "verdict",
    ]
    assert rows.select("guidance", "guided_to", "steps", "solver", "generator").unique().rows() == [
        (5.0, 0.0, 3, "dpm++2m", read_json(inputs[0] / "generator.json")["digest"])
    ]
    assert rows.schema["seed"] == pl.Int64
    sources = rows.join(real, left_on="source_image_id", right_on="image_id", how="left")
    assert sources["patient_id"].to_list() == open_dataset(whole).manifest["patient_id"].to_list()
    for target, labels in zip(rows["target"], sources.select(SPACE.findings).iter_rows(named=True), strict=True):
        assert labels[target] == 1


def test_a_target_can_have_a_scale_of_its_own(whole, inputs, tmp_path):
    other = dataclasses.replace(OPTIONS, guidance_for={"Hernia": 9.0})
    synthesize(*inputs, tmp_path / "synthetic", other)
    rows, before = provenance(tmp_path / "synthetic"), provenance(whole)
    assert (rows["guidance"] == 9.0).to_list() == (rows["target"] == "Hernia").to_list()
    images, usual = np.load(tmp_path / "synthetic" / "images.npy"), np.load(whole / "images.npy")
    changed = [not np.array_equal(image, before) for image, before in zip(images, usual, strict=True)]
    assert rows["image_id"].equals(before["image_id"])
    assert changed == (rows["target"] == "Hernia").to_list()


def test_a_scale_for_a_finding_that_is_no_target_is_refused(inputs, tmp_path):
    with pytest.raises(RecipeError, match="--guidance-for 'hernia'.*The targets are Hernia"):
        synthesize(*inputs, tmp_path / "synthetic", dataclasses.replace(OPTIONS, guidance_for={"hernia": 9.0}))


def test_rejected_images_stay_with_their_reason(whole):
    rows, report = provenance(whole), read_json(whole / "report.json")
    kept = rows.filter(pl.col("verdict") == KEPT)
    assert rows["verdict"].str.contains("^(kept$|rejected: .+)").all()
    assert report["counts"] == {"generated": IMAGES, "kept": kept.height, "rejected": IMAGES - kept.height}
    assert 0 < kept.height < IMAGES
    assert sum(report["reasons"].values()) == report["counts"]["rejected"]
    for row in report["targets"]:
        assert row["dose"] == row["kept"] / row["real"]
        assert row["generated"] == row["kept"] + sum(row["rejected"].values())
        assert row["rule"]["positives"] >= 0
    page = (whole / "report.html").read_text()
    assert "Research use only" in page
    assert "Hernia" in page


def test_dataset_json_says_from_what_the_images_come(whole, inputs):
    record = read_json(whole / "dataset.json")["synthetic"]
    assert record["dataset"] == "small-0"
    assert record["dataset_digest"] == sha256_file(inputs[1] / "dataset.json")
    assert record["generator"] == read_json(inputs[0] / "generator.json")["digest"]
    assert record["screener"] == read_json(inputs[2] / "model" / "model.json")["weights_sha256"]
    assert (whole / record["generator_folder"]).resolve() == inputs[0].resolve()
    assert (whole / record["screener_folder"]).resolve() == inputs[2].resolve()
    assert record["options"]["each"] == 7


def test_the_same_call_again_samples_nothing(whole, inputs, sampled):
    before = {path: path.stat().st_mtime_ns for path in whole.iterdir()}
    assert synthesize(*inputs, whole, OPTIONS) == read_json(whole / "report.json")
    assert sampled == []
    assert {path: path.stat().st_mtime_ns for path in whole.iterdir()} == before


def test_other_settings_are_refused(whole, inputs):
    with pytest.raises(RecipeError, match="other settings: each: 7 → 8"):
        synthesize(*inputs, whole, SynthesizeOptions(each=8, steps=3))


def test_the_batch_size_changes_no_image_by_more_than_its_rounding(whole, inputs, tmp_path):
    synthesize(*inputs, tmp_path / "synthetic", SynthesizeOptions(each=7, steps=3, batch_size=100, accelerator="cpu"))
    images = [np.load(folder / "images.npy").astype(int) for folder in (whole, tmp_path / "synthetic")]
    assert np.abs(images[0] - images[1]).max() <= 1


def test_a_smaller_plan_gives_the_first_images_of_a_larger_one(whole, inputs, tmp_path):
    synthesize(*inputs, tmp_path / "synthetic", SynthesizeOptions(each=3, steps=3, batch_size=3, accelerator="cpu"))
    few, many = provenance(tmp_path / "synthetic"), provenance(whole)
    there = dict(zip(many["image_id"], np.load(whole / "images.npy").astype(int), strict=True))
    for name, image in zip(few["image_id"], np.load(tmp_path / "synthetic" / "images.npy"), strict=True):
        assert np.abs(there[name] - image).max() <= 1


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize(("after", "whole_parts"), [(3, 0), (11, 2)])
def test_images_from_before_an_interruption_are_not_sampled_again(
    whole, inputs, tmp_path, sampled, monkeypatch, after, whole_parts, stop
):
    counted = sampling_run.sample

    def stopping(*arguments, **how):
        if len(sampled) >= after:
            raise stop
        return counted(*arguments, **how)

    monkeypatch.setattr(sampling_run, "sample", stopping)
    with pytest.raises(stop):
        synthesize(*inputs, tmp_path / "synthetic", OPTIONS)
    assert len(list((tmp_path / "synthetic" / "parts").glob("*"))) == whole_parts
    monkeypatch.setattr(sampling_run, "sample", counted)
    del sampled[:]
    synthesize(*inputs, tmp_path / "synthetic", OPTIONS)
    assert len(sampled) == len(set(sampled)) == IMAGES - 4 * whole_parts
    assert same(whole, tmp_path / "synthetic")


def test_a_full_disk_is_said_and_costs_a_part(whole, inputs, tmp_path, sampled, monkeypatch):
    flush = os.fsync

    def fail(handle):
        if len(sampled) > 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DataError, match=r"part-000002.npy: cannot be written \(No space left.*Free some space"):
        synthesize(*inputs, tmp_path / "synthetic", OPTIONS)
    assert sorted(path.name for path in (tmp_path / "synthetic" / "parts").iterdir()) == [
        "part-000000.npy",
        "part-000001.npy",
    ]
    monkeypatch.setattr(os, "fsync", flush)
    del sampled[:]
    synthesize(*inputs, tmp_path / "synthetic", OPTIONS)
    assert len(sampled) == IMAGES - 8
    assert same(whole, tmp_path / "synthetic")


def test_an_interruption_while_the_folder_is_written_samples_nothing_again(
    whole, inputs, tmp_path, sampled, monkeypatch
):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("trcgl.generate.synthetic_folder.write_page", fail)
    with pytest.raises(MemoryError):
        synthesize(*inputs, tmp_path / "synthetic", OPTIONS)
    with pytest.raises(DataError, match="did not write or finish"):
        open_dataset(tmp_path / "synthetic")
    monkeypatch.undo()
    monkeypatch.setattr(sampling_run, "IMAGES_PER_PART", 4)
    del sampled[:]
    synthesize(*inputs, tmp_path / "synthetic", OPTIONS)
    assert sampled == []
    assert same(whole, tmp_path / "synthetic")


def test_a_process_killed_while_it_writes_a_part_loses_that_part(whole, inputs, tmp_path, sampled):
    process = processes.start(processes.be_killed_while_writing, 2, *inputs, tmp_path / "synthetic", OPTIONS)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    parts = sorted(path.name for path in (tmp_path / "synthetic" / "parts").iterdir())
    assert [name for name in parts if name.startswith("part")] == ["part-000000.npy", "part-000001.npy"]
    assert len(parts) == 3
    synthesize(*inputs, tmp_path / "synthetic", OPTIONS)
    assert len(sampled) == IMAGES - 8
    assert same(whole, tmp_path / "synthetic")
    assert not (tmp_path / "synthetic" / "parts").exists()


def test_two_processes_give_the_images_of_a_single_process(whole, inputs, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [
        processes.start(processes.sample_as_one_of_two, rank, port, *inputs, tmp_path / "synthetic", OPTIONS)
        for rank in range(2)
    ]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [12, 12]  # two parts each
    assert same(whole, tmp_path / "synthetic")


def test_a_process_does_not_outlive_the_one_that_started_it(tmp_path):
    process = processes.start(processes.be_killed_with_a_child, tmp_path / "pid")
    process.join()
    child = int((tmp_path / "pid").read_text())
    state, until = Path(f"/proc/{child}/stat"), time.monotonic() + 10

    def running():
        try:
            return ") Z " not in state.read_text()  # a zombie has ended, and nobody has asked how
        except OSError:
            return False

    while running() and time.monotonic() < until:
        time.sleep(0.05)
    assert not running()


def test_progress_shows_the_rate(inputs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("trcgl.core.progress.LINE_SECONDS", 0.0)
    synthesize(*inputs, tmp_path / "synthetic", OPTIONS)
    assert re.search(r"generating images: 7 of 14, [\d.]+ images/s, about \d+ s left", capsys.readouterr().err)


def test_images_of_another_size_are_resized_and_it_is_said(inputs, tmp_path, capsys):
    generator = write_generator(tmp_path / "generator", inputs[1], image_size=16)
    synthesize(generator, *inputs[1:], tmp_path / "synthetic", OPTIONS)
    assert np.load(tmp_path / "synthetic" / "images.npy").shape == (IMAGES, SIDE, SIDE)
    assert "generated at 16 pixels and resized to the dataset's 32" in capsys.readouterr().err


def test_bfloat16_gives_nearly_the_same_images(whole, inputs, tmp_path):
    options = SynthesizeOptions(each=7, steps=3, batch_size=3, precision="bf16", accelerator="cpu")
    synthesize(*inputs, tmp_path / "synthetic", options)
    images = [np.load(folder / "images.npy").astype(float) for folder in (whole, tmp_path / "synthetic")]
    assert 0 < np.abs(images[0] - images[1]).mean() < 0.1 * images[0].std()


def test_unscreened_images_are_all_kept(inputs, tmp_path):
    options = SynthesizeOptions(each=2, steps=1, unscreened=True, accelerator="cpu")
    report = synthesize(*inputs[:2], None, tmp_path / "synthetic", options)
    assert report["counts"] == {"generated": 4, "kept": 4, "rejected": 0}
    assert provenance(tmp_path / "synthetic")["verdict"].to_list() == [KEPT] * 4
    assert read_json(tmp_path / "synthetic" / "dataset.json")["synthetic"]["screener"] is None


@pytest.mark.parametrize("unscreened", [True, False])
def test_screening_needs_a_screener_and_its_absence_a_word(inputs, tmp_path, unscreened):
    with pytest.raises(RecipeError, match="--screener RUN.*--unscreened"):
        synthesize(
            *inputs[:2], inputs[2] if unscreened else None, tmp_path / "x", SynthesizeOptions(unscreened=unscreened)
        )


def test_a_label_space_without_normal_or_head_findings_gets_a_note(tmp_path):
    findings = ("A", "B", "C")
    dataset = write_dataset(tmp_path / "other", findings=findings)
    space = open_dataset(dataset).space
    generator = write_generator(tmp_path / "generator", dataset, space=space)
    report = synthesize(
        generator, dataset, None, tmp_path / "synthetic", SynthesizeOptions(("A",), each=2, steps=1, unscreened=True)
    )
    assert report["counts"]["generated"] == 2
    assert "a synthetic image for a rare finding" in report["notes"][0]
    assert "a synthetic image for a rare finding" in (tmp_path / "synthetic" / "report.html").read_text()


OTHER = LabelSpace("other", ("Edema", "Mass", "Hernia", "Normal"), normal="Normal")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"space": OTHER}, DataError, "generator generates Edema, Mass.*small has Mass, Edema"),
        ({"patients": ["somebody", "else"]}, DataError, "may have seen patients of its val or test"),
    ],
)
def test_a_generator_that_does_not_belong_to_the_dataset_is_refused(inputs, tmp_path, wrong, error, message):
    generator = write_generator(tmp_path / "generator", inputs[1], **wrong)
    with pytest.raises(error, match=message):
        synthesize(generator, *inputs[1:], tmp_path / "synthetic", OPTIONS)
    assert not (tmp_path / "synthetic").exists()


def test_a_half_written_generator_is_refused(inputs, tmp_path):
    shutil.copytree(inputs[0], tmp_path / "generator")
    (tmp_path / "generator" / "generator.json").unlink()
    with pytest.raises(CheckpointError, match="no generator.json"):
        synthesize(tmp_path / "generator", *inputs[1:], tmp_path / "synthetic", OPTIONS)


def test_a_damaged_generator_is_refused(inputs, tmp_path):
    shutil.copytree(inputs[0], tmp_path / "generator")
    weights = next((tmp_path / "generator" / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="not the file that was written"):
        synthesize(tmp_path / "generator", *inputs[1:], tmp_path / "synthetic", OPTIONS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"space": OTHER}, "run recognizes Edema, Mass.*small has Mass, Edema"),
        ({"patients": ["somebody", "else"]}, "not trained on the train patients"),
        ({"synthetic": "folder"}, "was trained with synthetic images"),
        ({"fit": "squash"}, "prepared with --fit letterbox.*squash"),
    ],
)
def test_a_screener_that_does_not_fit_is_refused(inputs, tmp_path, wrong, message):
    screener = write_screener(tmp_path / "run", inputs[1], **wrong)
    with pytest.raises(DataError, match=message):
        synthesize(*inputs[:2], screener, tmp_path / "synthetic", OPTIONS)
    assert not (tmp_path / "synthetic").exists()


def test_an_unfinished_screener_is_refused(inputs, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(DataError, match="not finished"):
        synthesize(*inputs[:2], tmp_path / "run", tmp_path / "synthetic", OPTIONS)


def test_too_little_space_is_reported_before_sampling(inputs, tmp_path, sampled, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100})())
    with pytest.raises(DataError, match="14 images of 32 px need .* or generate fewer"):
        synthesize(*inputs, tmp_path / "synthetic", OPTIONS)
    assert sampled == []


def test_the_smaller_plan_that_too_little_space_asks_for_may_use_the_same_folder(inputs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(DataError, match="generate fewer"):
        patch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100})())
        synthesize(*inputs, tmp_path / "synthetic", OPTIONS)
    fewer = dataclasses.replace(OPTIONS, each=1)
    assert synthesize(*inputs, tmp_path / "synthetic", fewer)["counts"]["generated"] == 2
    with pytest.raises(RecipeError, match="each: 1 → 7"):
        synthesize(*inputs, tmp_path / "synthetic", OPTIONS)


def test_a_second_command_for_the_same_folder_is_refused(inputs, tmp_path):
    holder = processes.start(processes.hold, tmp_path / "synthetic")
    while not (tmp_path / "synthetic" / ".lock").exists() or not (tmp_path / "synthetic" / ".lock").read_text():
        time.sleep(0.05)
    with pytest.raises(DataError, match=f"synthetic: process {holder.pid} on .* writes to it"):
        synthesize(*inputs, tmp_path / "synthetic", OPTIONS)
    holder.kill()
    holder.join()
    assert synthesize(*inputs, tmp_path / "synthetic", dataclasses.replace(OPTIONS, each=1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 1001},
        {"guidance": float("nan")},
        {"guidance_for": {"Hernia": -1.0}},
        {"guided_to": float("inf")},
        {"batch_size": 0},
        {"nodes": 0},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(RecipeError, match="--" + next(iter(wrong)).replace("_", "-")):
        SynthesizeOptions(**wrong)


def test_without_an_amount_as_many_images_are_generated_as_are_real(inputs, tmp_path):
    plain = {"steps": 1, "unscreened": True, "accelerator": "cpu"}
    report = synthesize(*inputs[:2], None, tmp_path / "synthetic", SynthesizeOptions(**plain))
    hernia = report["targets"][0]
    assert hernia["target"] == "Hernia"
    assert hernia["generated"] == hernia["real"] > 0
    assert synthesize(*inputs[:2], None, tmp_path / "synthetic", SynthesizeOptions(**plain, dose=1.0)) == report


@pytest.mark.parametrize("amount", ["--each", "--count", "--dose"])
def test_the_command_line_takes_any_one_amount(inputs, tmp_path, amount, capsys):
    generator, dataset, _ = map(str, inputs)
    number = {"--each": "2", "--count": "17", "--dose": "0.13"}[amount]  # of 15 real ones
    out = ["--out", str(tmp_path / "synthetic"), "--dataset", dataset, "--steps", "1", "--unscreened"]
    assert main(["synthesize", generator, *out, amount, number, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {row["target"]: row["generated"] for row in report["targets"]} == {"Hernia": 2, "Mass": 1, "Normal": 1}


def test_the_page_starts_with_what_was_found_and_fits_a_phone(whole):
    counts, page = read_json(whole / "report.json")["counts"], (whole / "report.html").read_text()
    assert f"{counts['kept']} of {counts['generated']} synthetic images passed screening" in page
    assert "Reasons for rejection: " in page
    assert_fits(whole / "report.html")


def test_synthetic_images_keep_the_view_and_labels_left_out_of_a_prompt_are_unknown(tmp_path):
    dataset = write_dataset(tmp_path / "small", train=60)
    generator = write_generator(tmp_path / "generator", dataset, views=True, placement="input", tokens=11)
    options = dataclasses.replace(OPTIONS, unscreened=True, views="all", each=9)
    report = synthesize(generator, dataset, None, tmp_path / "synthetic", options)
    synthetic, rows = open_dataset(tmp_path / "synthetic"), provenance(tmp_path / "synthetic")
    views = dict(open_dataset(dataset).manifest.select("image_id", "view").iter_rows())
    assert rows["view"].to_list() == [views[name] for name in rows["source_image_id"]]
    assert synthetic.manifest["view"].equals(rows["view"])
    assert report["shortened"] == (rows["left_out"].list.len() > 0).sum() > 0
    for row, known in zip(rows.iter_rows(named=True), synthetic.manifest.iter_rows(named=True), strict=True):
        assert all(known[finding] is None for finding in row["left_out"])
        assert known[row["target"]] == 1


def test_images_of_a_generator_whose_prompts_name_views_are_frontal_by_default(tmp_path):
    dataset = write_dataset(tmp_path / "small", train=60)
    generator = write_generator(tmp_path / "generator", dataset, views=True)
    synthesize(generator, dataset, None, tmp_path / "synthetic", dataclasses.replace(OPTIONS, unscreened=True))
    assert provenance(tmp_path / "synthetic")["view"].unique().to_list() == ["frontal"]
    assert read_json(tmp_path / "synthetic" / "dataset.json")["synthetic"]["options"]["views"] == "frontal"


def test_a_gpu_that_computes_in_bfloat16_uses_it_and_a_cpu_does_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert sampling_run.precision_for("auto", gpu=True) == "bf16"
    assert sampling_run.precision_for("auto", gpu=False) == "32-true"
    assert sampling_run.precision_for("32-true", gpu=True) == "32-true"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert sampling_run.precision_for("auto", gpu=True) == "32-true"


def test_the_precision_that_was_used_is_recorded(whole):
    assert read_json(whole / "dataset.json")["synthetic"]["options"]["precision"] == "32-true"
