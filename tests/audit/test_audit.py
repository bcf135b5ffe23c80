"""An audit of a folder: what it writes, that it resumes, and that planted images get the verdicts they deserve."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tests.audit.small_audit import OPTIONS as SYNTHESIS
from tests.audit.small_audit import write_small
from tests.dataset.small_dataset import small_recipe, write_dataset
from tests.generate.small_generator import write_generator
from tests.pages import assert_fits
from trcgl.audit.audit import AuditOptions, audit
from trcgl.audit.check import FAIL, PASS
from trcgl.cli.main import main
from trcgl.core.errors import DataError, RecipeError
from trcgl.core.lock import locked
from trcgl.core.storage import read_json
from trcgl.dataset.store import open_dataset
from trcgl.evaluate.evaluate import evaluate_run
from trcgl.generate import sampling_run
from trcgl.generate.synthesize import synthesize
from trcgl.training.train import train

OPTIONS = AuditOptions(
    each=12, sweep_each=2, handwritten_each=3, features=("thumbnail",), batch_size=16, held_out="test"
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    made = write_small(folder)
    info = read_json(made.synthetic / "dataset.json")
    assert info["synthetic"]["options"]["each"] == SYNTHESIS.each
    return made


@pytest.fixture(scope="module")
def result(small):
    return audit(small.synthetic, small.dataset, small.auditor, options=OPTIONS)


@pytest.fixture(scope="module")
def page(small, result):
    return (small.synthetic / "audit" / "audit.html").read_text()


def test_every_target_is_audited_and_the_balancing_findings_are_not(result):
    assert list(result["findings"]) == ["Hernia", "Edema"]
    assert result["schema"] == "trcgl.audit/2"


def test_the_folder_holds_what_the_audit_returned(small, result):
    folder = small.synthetic / "audit"
    assert read_json(folder / "audit.json") == json.loads(json.dumps(result))
    assert {"audit.html", "audit.json", "settings.json", "sheets", "reader_kit"} <= {
        path.name for path in folder.iterdir()
    }
    open_dataset(small.synthetic)  # still one


def test_no_verdict_without_its_reason_its_numbers_and_its_null(result):
    for entry in result["findings"].values():
        assert entry["verdict"]["word"] and entry["verdict"]["why"]
        label = entry["label_fidelity"]
        assert label["synthetic"]["positives"] == label["synthetic"]["negatives"] == 12
        assert label["deranged"]["auroc"]["value"] is not None
        assert label["real"]["positives"] == entry["counts"]["held_out"]
        assert entry["fidelity"]["thumbnail"]["kid"]["n_synthetic"] == 12
        assert {"auroc", "null"} <= entry["real_or_synthetic"]["thumbnail"].keys()
        assert entry["counts"]["screened"] == 6


def test_the_autoencoder_is_measured(result):
    assert result["overall"]["ceiling"]["kind"] == "SpaceToDepth"
    assert result["overall"]["ceiling"]["gray_levels"]["lossless"]
    assert result["overall"]["ceiling"]["gray_levels"]["images"] == result["held_out"]["images"]
    for entry in result["findings"].values():
        assert entry["ceiling"]["loss"]["value"] == 0


def test_the_sweep_has_every_scale_once_and_the_tokens_their_counterpart(result):
    assert [row["guidance"] for row in result["overall"]["guidance"]] == [1, 1.5, 3, 5, 7.5]
    assert [row["own"] for row in result["overall"]["guidance"]] == [False, False, False, True, False]
    assert {row["images"] for row in result["overall"]["guidance"]} == {4}
    assert result["overall"]["context_tokens"]["learned"]["images"] == 6
    assert "own" in result["overall"]["context_tokens"]["tokens_trained"]


def test_the_page_is_one_file_with_every_finding_and_all_images(page, result):
    assert "Research use only" in page
    assert "Phantoms, not patients" not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    for finding in result["findings"]:
        assert f">{finding}</a>" in page
    assert page.count("real, held out</div>") == 2 * 10
    assert page.count("without, score") == 2 * 5


def test_page_and_reader_kit_fit_a_phone_also_with_everything_unfolded(small, page, tmp_path):
    unfolded = tmp_path / "unfolded.html"
    unfolded.write_text(page.replace("<details", "<details open"))
    folder = small.synthetic / "audit"
    assert_fits(folder / "audit.html", unfolded, folder / "reader_kit" / "index.html")


def test_the_same_call_again_computes_nothing(small, result):
    folder = small.synthetic / "audit"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = audit(small.synthetic, small.dataset, small.auditor, options=OPTIONS)
    assert again == json.loads(json.dumps(result))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_settings_are_refused(small, result):
    with pytest.raises(RecipeError, match="each: 12 → 13"):
        audit(
            small.synthetic,
            small.dataset,
            small.auditor,
            options=AuditOptions(**{**vars(OPTIONS), "each": 13}),
        )


def test_a_folder_without_results_is_left_to_the_corrected_command_and_to_one_command_at_a_time(
    small, tmp_path, monkeypatch
):
    def full(*_, **__):
        raise DataError("the disk is full")

    monkeypatch.setattr("trcgl.audit.audit.sample_sheets", full)
    inputs = (small.synthetic, small.dataset, small.auditor)
    for each in (12, 11):
        with pytest.raises(DataError, match="the disk is full"):
            audit(*inputs, out=tmp_path / "audit", options=replace(OPTIONS, each=each))
    with locked(tmp_path / "audit"), pytest.raises(DataError, match="audit: process .* writes to it"):
        audit(*inputs, out=tmp_path / "audit", options=OPTIONS)


def test_the_command_line_prints_a_line_for_each_finding(small, result, capsys):
    command = f"audit {small.synthetic} --dataset {small.dataset} --auditor {small.auditor} --each 12 --sweep-each 2"
    command += " --handwritten-each 3 --features thumbnail --held-out test"
    assert main(command.split()) == 0
    words = capsys.readouterr().out
    for finding, entry in result["findings"].items():
        assert re.search(rf"{finding} +{entry['verdict']['word']} \({entry['status']}\): ", words)
    assert main([*command.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"].keys() == result["findings"].keys()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"each": 1}, "--each 1: give at least 2"),
        ({"each": 10, "sweep_each": 11}, "--sweep-each 11"),
        ({"features": ()}, "two"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changed, message):
    with pytest.raises(RecipeError, match=message):
        AuditOptions(**changed)


def test_a_finding_that_the_dataset_does_not_have_is_refused(small, tmp_path):
    with pytest.raises(RecipeError, match="'Fracture'"):
        audit(
            small.synthetic,
            small.dataset,
            small.auditor,
            out=tmp_path / "audit",
            options=AuditOptions(findings=("Fracture",)),
        )


@pytest.mark.slow
def test_generation_that_was_interrupted_continues(small, result, tmp_path, monkeypatch):
    """Finished sheets are kept."""
    out = tmp_path / "audit"
    shutil.copytree(small.synthetic / "audit" / "sheets", out / "sheets")
    shutil.copy(small.synthetic / "audit" / "settings.json", out / "settings.json")
    (out / "sheets" / "normals.npy").unlink()
    generated, sample = [], sampling_run.sample

    def counted(generator, condition, empty, seeds, **how):
        generated.extend(seeds)
        return sample(generator, condition, empty, seeds, **how)

    monkeypatch.setattr(sampling_run, "sample", counted)
    again = audit(small.synthetic, small.dataset, small.auditor, out=out, options=OPTIONS)
    taken = pl.read_parquet(small.synthetic / "provenance.parquet").filter(pl.col("target") == "Normal").height
    assert len(generated) == 12 - min(12, taken)
    assert again["findings"]["Hernia"]["label_fidelity"] == result["findings"]["Hernia"]["label_fidelity"]


PLANTED = 240
"""Enough that an AUROC of 1 is shown to be above .95."""


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A dataset, an auditor that knows its findings, and a folder of unscreened synthetic images."""
    folder = tmp_path_factory.mktemp("learned")
    dataset = write_dataset(folder / "small", train=600, val=120, test=160, unknown=0.0)
    train(dataset, small_recipe(epochs=6), folder / "auditor")
    evaluate_run(folder / "auditor", split="val")
    generator = write_generator(folder / "generator", dataset)
    settings = type(SYNTHESIS)(**{**vars(SYNTHESIS), "targets": ("Hernia",), "unscreened": True})
    synthesize(generator, dataset, None, folder / "synthetic", settings)
    return folder


def planted(learned, out, with_it, without, seed=0):
    """An audit of one finding whose sheets hold real training images of one kind and another."""
    options = AuditOptions(
        findings=("Hernia",), each=PLANTED, sweep_each=0, handwritten_each=0, features=("thumbnail",)
    )
    settings = out / "settings.json"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr("trcgl.audit.audit.sample_sheets", lambda *_, **__: next(iter(())))
        audit(learned / "synthetic", learned / "small", learned / "auditor", out=out, options=options)
    assert settings.exists()
    dataset, rng = open_dataset(learned / "small"), np.random.default_rng(seed)
    rows = dataset.split("train")

    def some(which):
        there = rows.filter(which)["row"].to_numpy()
        return np.asarray(dataset.images[rng.choice(there, PLANTED, replace=len(there) < PLANTED)])

    (out / "sheets").mkdir()
    for name, which in (("with", with_it), ("without", without), ("normals", pl.col("Normal") == 1)):
        np.save(out / "sheets" / f"{name}.npy", some(which))
    return audit(learned / "synthetic", learned / "small", learned / "auditor", out=out, options=options)["findings"][
        "Hernia"
    ]


@pytest.mark.slow
def test_planted_images_that_show_the_finding_pass_and_are_found_to_be_copies(learned, tmp_path):
    found = planted(learned, tmp_path / "audit", pl.col("Hernia") == 1, pl.col("Hernia") == 0)
    assert found["label_fidelity"]["real"]["auroc"]["value"] > 0.9
    assert found["verdict"]["word"] == PASS, found["verdict"]
    assert found["memorization"]["flagged"] is True
    assert any("Copies" in caution for caution in found["verdict"]["cautions"])


@pytest.mark.slow
def test_planted_images_that_do_not_show_it_fail(learned, tmp_path):
    found = planted(learned, tmp_path / "audit", pl.col("Hernia") == 0, pl.col("Hernia") == 0)
    assert found["verdict"]["word"] == FAIL, found["verdict"]
    assert "not above 0.5" in found["verdict"]["why"]


@pytest.mark.slow
def test_planted_images_that_show_it_whether_asked_or_not_fail(learned, tmp_path):
    found = planted(learned, tmp_path / "audit", pl.col("Hernia") == 1, pl.col("Hernia") == 1)
    assert found["verdict"]["word"] == FAIL, found["verdict"]
