"""The guided tour runs, its page is complete, and its printed commands do the same."""

import json
import re
import shlex

import polars as pl
import pytest

from tests.pages import assert_fits
from trcgl.cli import main as cli
from trcgl.demo import DemoSize, demo
from trcgl.demo.page import answer_of

TARGETS = ("calcified densities", "hyperinflated lung")
SIZE = DemoSize(
    train_images=120,
    positives_per_finding=1,
    pixels=64,
    epochs=1,
    generator_steps=2,
    context_steps=1,
    synthetic=3,
    targets=TARGETS,
    auditor_images=40,
)


@pytest.fixture(scope="module")
def toured(tmp_path_factory):
    """The folder and the result of a tiny demo."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo(folder, SIZE)


@pytest.fixture(scope="module")
def page(toured):
    return (toured[0] / "report.html").read_text(encoding="utf-8")


def test_the_demo_ends_with_one_page_on_phantoms(toured, page):
    folder, result = toured
    assert result["report"] == str(folder / "report.html")
    assert "Phantoms, not patients" in page
    assert "Research use only" in page
    assert result["answer"] in page
    for target in TARGETS:
        assert f"real images with {target} above" in page
    assert page.count('src="data:image/png') == len(TARGETS)


def test_the_page_fits_a_phone(toured):
    assert_fits(toured[0] / "report.html")


def test_every_link_of_the_page_leads_somewhere(toured, page):
    links = re.findall(r'href="([^"#]+)"', page)
    assert len(links) >= 5
    for link in links:
        assert (toured[0] / link).exists(), link


def test_the_summary_holds_the_results_and_says_that_phantoms_are_no_evidence(toured):
    _, result = toured
    assert result["schema"] == "trcgl.demo/3"
    for name in ("real", "synthetic"):
        assert {"mAP", "mAUC", "head", "medium", "tail"} == set(result["test"][name])
    assert result["audit"].keys() == set(TARGETS)
    assert "Nothing here is clinical evidence" in result["tour"]
    assert result["answer"] in result["tour"]
    assert all(command in result["tour"] for command in result["commands"])
    json.dumps(result, allow_nan=False)


def test_the_difference_is_that_of_the_two_runs(toured):
    result = toured[1]
    before, after = (result["test"][name]["tail"]["value"] for name in ("real", "synthetic"))
    assert result["tail"]["value"] == pytest.approx(after - before)


def test_the_run_with_synthetic_images_took_as_many_steps_and_all_kept_images(toured):
    folder, result = toured
    real, both = (json.loads((folder / name / "run.json").read_text()) for name in ("real", "with-synthetic"))
    assert both["steps"] == real["steps"]
    assert both["synthetic"]["rows"] == result["synthetic"]["kept"]
    assert result["synthetic"]["generated"] == 2 * 3 * len(TARGETS)


def test_screener_and_auditor_share_no_patient(toured):
    first, second = (
        set(pl.read_parquet(toured[0] / name / "manifest.parquet")["patient_id"]) for name in ("phantom", "others")
    )
    assert first and second and not first & second


def test_the_demo_scores_files_as_a_user_would(toured):
    folder, _ = toured
    lines = (folder / "scores.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("image_id,score/")
    assert len(lines) == 1 + len(list((folder / "scans").glob("*.png")))


def test_the_printed_commands_do_the_same_and_resume(toured, capsys):
    """Each folder refuses other settings, so a command that is accepted has the same settings."""
    folder, result = toured
    written = [
        *(
            folder / run / name
            for run in ("real", "with-synthetic", "auditor")
            for name in ("run.json", "model/model.json")
        ),
        *(folder / name for name in ("generator/generator.json", "synthetic/dataset.json", "audit/audit.json")),
    ]
    before = [path.read_bytes() for path in written]
    for command in result["commands"]:
        assert cli.main(shlex.split(command.split(" > ")[0])[1:]) == 0, command
    assert capsys.readouterr().out.endswith((folder / "scores.csv").read_text(encoding="utf-8"))
    assert [path.read_bytes() for path in written] == before


def difference(value, low, high):
    return {"value": value, "ci": [low, high], "dropped": 3, "reference": 0.4, "run": 0.4 + value, "findings": 7}


def test_the_answer_claims_a_difference_only_where_the_interval_leaves_out_zero():
    assert answer_of(difference(0.03, 0.01, 0.05), 2000).startswith("With synthetic images, tail mAP rose")
    assert answer_of(difference(-0.03, -0.05, -0.01), 2000).startswith("With synthetic images, tail mAP fell")
    for value, low, high in ((0.03, -0.01, 0.07), (-0.03, -0.07, 0.01), (0.0, 0.0, 0.0)):
        assert answer_of(difference(value, low, high), 2000).startswith("No difference shown")


def test_without_a_difference_the_answer_gives_the_detectable_difference():
    """2.8 standard errors; an interval reaches 1.96 of them to each side."""
    assert answer_of(difference(0.01, 0.01 - 0.0392, 0.01 + 0.0392), 2000).endswith(
        "a difference of about 0.056 with 80 % power."
    )


def test_without_an_interval_the_answer_gives_the_reason():
    result = {"value": None, "ci": None, "why": "undefined for every finding"}
    assert (
        answer_of(result, 2000) == "This demo cannot say whether synthetic images helped: undefined for every finding."
    )


def test_the_answer_names_replicates_without_a_positive():
    result = difference(-0.03, -0.05, -0.01) | {"dropped": 1862}
    assert answer_of(result, 2000).startswith(
        "This demo cannot say whether synthetic images helped: 1,862 of 2,000 resamples"
    )
