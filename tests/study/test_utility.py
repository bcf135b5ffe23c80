"""A whole study of utility, small."""

import json

import polars as pl
import pytest

from tests.dataset.small_dataset import SPACE, write_dataset
from tests.dataset.small_synthetic import write_synthetic
from trcgl.core.errors import DataError, RecipeError
from trcgl.core.recipe import from_json
from trcgl.dataset.store import open_dataset
from trcgl.dataset.synthetic_rows import open_synthetic
from trcgl.study.utility import utility
from trcgl.study.utility_report import amounts

TARGETS = {"Hernia": 12, "Normal": 6, "Mass": 6}
SETTINGS = {"doses": (2.0, 0.25, 9.0), "schedules": ("mix",), "seeds": 1}
FILES = ("table.md", "table.csv", "table.json", "intervals.svg", "doses.svg", "study.json", "chosen.json")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folders")
    data = write_dataset(folder / "data")
    synthetic = write_synthetic(folder / "synthetic", data, targets=TARGETS, rejected=(2, 5))
    text = write_synthetic(folder / "text", data, targets={"Hernia": 4, "Normal": 2, "Mass": 2})
    return data, synthetic, text


@pytest.fixture(scope="module")
def finished(folders, recipe, tmp_path_factory):
    data, synthetic, text = folders
    out = tmp_path_factory.mktemp("study") / "study"
    return out, utility(data, recipe, out, synthetic=synthetic, prompts={"handwritten": text}, **SETTINGS)


def files(out):
    return {name: (out / name).read_bytes() for name in FILES}


def test_all_arms_differ_from_the_base_in_the_synthetic_images_their_dose_and_schedule_alone(finished, recipe):
    out, table = finished
    dose, other = (f"{value:g}" for value in sorted((0.25, 2.0), key=lambda value: value != table["choice"]["dose"]))
    assert set(table["arms"]) == {
        "real",
        "balanced",
        *(f"{kind}_mix_{at}" for kind in ("synthetic", "duplicated") for at in (dose, other)),
        *(f"{kind}_mix_{dose}" for kind in ("masked", "unscreened", "deranged", "handwritten")),
    }
    for arm, content in table["arms"].items():
        changed = {change.partition(":")[0] for change in content["changes"]}
        assert changed <= {"synthetic.dose", "train.row_sampling"} and ("train.row_sampling" in changed) == (
            arm == "balanced"
        )
        made = from_json((out / "runs" / arm / "seed-0" / "recipe.json").read_text())
        assert made.train.epochs == recipe.train.epochs and made.synthetic.schedule == "mix"


def test_arms_that_are_compared_have_equally_many_images_of_each_target(finished):
    out, table = finished
    run = "_".join((table["choice"]["schedule"], f"{table['choice']['dose']:g}"))
    counts = {}
    for kind in ("synthetic", "duplicated", "masked", "unscreened", "deranged"):
        info = json.loads((out / "runs" / f"{kind}_{run}" / "seed-0" / "run.json").read_text())
        counts[kind] = {
            finding: counts_of["synthetic_for"] for finding, counts_of in info["synthetic"]["findings"].items()
        }
    assert counts["synthetic"]["Hernia"] > 0
    assert all(count == counts["synthetic"] for count in counts.values())
    assert not json.loads((out / "runs" / "real" / "seed-0" / "run.json").read_text())["synthetic"]


def test_all_runs_take_equally_many_steps(finished):
    out, table = finished
    steps = {json.loads((out / "runs" / arm / "seed-0" / "run.json").read_text())["steps"] for arm in table["arms"]}
    assert len(steps) == 1


def test_the_primary_contrast_is_synthetic_against_duplicated_at_what_val_chose(finished):
    out, table = finished
    chosen = json.loads((out / "chosen.json").read_text())
    assert chosen == table["choice"]
    name = f"mix_{chosen['dose']:g}"
    first, *others = table["contrasts"]
    assert (first["arm"], first["against"], first["primary"]) == (f"synthetic_{name}", f"duplicated_{name}", True)
    asked = {(contrast["arm"].partition("_mix")[0], contrast["against"].partition("_mix")[0]) for contrast in others}
    assert asked == {
        ("synthetic", "real"),
        ("duplicated", "real"),
        ("synthetic", "balanced"),
        ("synthetic", "masked"),
        ("synthetic", "unscreened"),
        ("synthetic", "deranged"),
        ("handwritten", "synthetic"),
        ("synthetic", "duplicated"),
    }


def test_the_runs_that_choose_are_not_those_that_are_compared(finished):
    out, table = finished
    runs = {tuple(path.parts[-2:]) for path in out.glob("runs/*/seed-*.json")}
    choosing = {(f"synthetic_mix_{dose}", "seed-1000.json") for dose in ("0.25", "2")}
    assert choosing == {run for run in runs if run[1] != "seed-0.json"}
    assert all(candidate["seeds"] == [1000] for candidate in table["choice"]["candidates"])
    assert all(arm["seeds"] == [0] for arm in table["arms"].values())


def test_masked_duplicates_show_the_images_of_duplicates_and_know_the_labels_of_synthetic_ones(finished, folders):
    out, _ = finished
    real = open_dataset(folders[0])
    masked, duplicates, synthetic = (
        open_synthetic(folder, real) for folder in (out / "masked", out / "duplicates", folders[1])
    )
    assert (masked.dataset.require_images() == duplicates.dataset.require_images()).all()
    assert masked.rows.select(SPACE.findings).equals(synthetic.rows.select(SPACE.findings))
    assert not masked.rows.select(SPACE.findings).equals(duplicates.rows.select(SPACE.findings))


def test_what_is_left_out_and_which_dose_is_reached_is_reported(finished, folders):
    out, table = finished
    assert table["absent"]["dose 9"] == "no image was kept that dose 2 does not take already"
    assert "--generator" in table["absent"]["round_trip"] and "shared_tokens" in table["absent"]
    real = open_dataset(folders[0])
    positives = int((real.split("train")["Hernia"] == 1).sum())
    (hernia,) = [row for row in table["amounts"] if row["finding"] == "Hernia"]
    assert (hernia["real"], hernia["synthetic"], hernia["kept"]) == (positives, 12, 10)
    small, large = hernia["doses"]
    assert (small["asked"], small["used"]) == (round(0.25 * positives),) * 2
    assert (large["asked"], large["used"]) == (2 * positives, 10) and large["reached"] == 10 / positives
    for at in hernia["doses"]:
        assert at["used"] == (open_synthetic(folders[1], real, at["dose"]).targets == "Hernia").sum()
    page, markdown = (out / "study.html").read_text(), (out / "table.md").read_text()
    for text in (f"10 of {2 * positives} ({10 / positives:.2f})", "Choice on val", "Tail findings", "Left out"):
        assert text in page and text in markdown
    assert table["verdict"].partition(". ")[0] in page and "chosen" in page


def test_the_same_command_after_an_interruption_gives_the_same_bytes(finished, folders, recipe):
    out, table = finished
    data, synthetic, text = folders
    before = files(out)
    stopped = [*out.glob("runs/duplicated*/seed-0.json"), *out.glob("runs/synthetic_mix_2/seed-0.json")]
    for path in (*stopped, out / "chosen.json", out / "table.json"):
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/seed-0.json")}
    assert utility(data, recipe, out, synthetic=synthetic, prompts={"handwritten": text}, **SETTINGS) == table
    assert files(out) == before
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())


def test_other_doses_or_schedules_are_another_study(finished, folders, recipe):
    data, synthetic, _ = folders
    with pytest.raises(RecipeError, match=r"doses: \[0.25, 2.0, 9.0\] → \[1.0\]"):
        utility(data, recipe, finished[0], synthetic=synthetic, **{**SETTINGS, "doses": (1.0,)})
    with pytest.raises(RecipeError, match="schedules: "):
        longer = {**SETTINGS, "schedules": ("mix", "pretrain")}
        utility(data, recipe, finished[0], synthetic=synthetic, **longer)


def test_runs_of_other_synthetic_images_are_not_taken_for_those_of_a_prompt(finished, folders, recipe, tmp_path):
    data, synthetic, _ = folders
    other = write_synthetic(tmp_path / "other", data, targets={"Hernia": 3, "Normal": 2, "Mass": 1})
    with pytest.raises(RecipeError, match="trained with other images"):
        utility(data, recipe, finished[0], synthetic=synthetic, prompts={"handwritten": other}, **SETTINGS)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"doses": (0.0, 1.0)}, "numbers above 0"),
        ({"doses": (1.0, 1.0)}, "--doses names 1.0 more than once"),
        ({"schedules": ()}, "--schedules"),
    ],
)
def test_settings_that_make_no_sense_are_refused(folders, recipe, tmp_path, changes, why):
    with pytest.raises(RecipeError, match=why):
        utility(folders[0], recipe, tmp_path / "study", synthetic=folders[1], **{**SETTINGS, **changes})
    assert not (tmp_path / "study").exists()


def test_a_folder_that_was_generated_from_another_prompt_is_refused(folders, recipe, tmp_path):
    data, synthetic, _ = folders
    about = {
        "dataset": "small-0",
        "dataset_digest": open_synthetic(synthetic, open_dataset(data)).dataset.info["synthetic"]["dataset_digest"],
    }
    shared = write_synthetic(tmp_path / "shared", data, synthetic={**about, "options": {"prompt": "shared_tokens"}})
    with pytest.raises(RecipeError, match="--handwritten .* it was generated with --prompt shared_tokens"):
        utility(data, recipe, tmp_path / "study", synthetic=synthetic, prompts={"handwritten": shared}, **SETTINGS)


def test_without_a_tail_positive_in_val_nothing_can_be_chosen(folders, recipe, tmp_path):
    data = write_dataset(tmp_path / "data")
    manifest = pl.read_parquet(data / "manifest.parquet")
    absent = pl.when(pl.col("split") == "val").then(0).otherwise(pl.col("Hernia")).cast(pl.Int8).alias("Hernia")
    manifest.with_columns(absent).write_parquet(data / "manifest.parquet")
    info = json.loads((data / "dataset.json").read_text())
    from trcgl.core.storage import sha256_file, write_json

    path = data / "manifest.parquet"
    info["files"]["manifest.parquet"] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    write_json(data / "dataset.json", info)
    synthetic = write_synthetic(tmp_path / "synthetic", data, targets=TARGETS)
    with pytest.raises(DataError, match="val has no positive of a tail finding"):
        utility(data, recipe, tmp_path / "study", synthetic=synthetic, **SETTINGS)


def test_balancing_findings_have_no_dose_of_their_own(folders):
    real = open_dataset(folders[0])
    table = {row["finding"]: row for row in amounts(folders[1], real, (0.25, 2.0))}
    assert set(table) == {"Hernia", "Mass", "Normal"} and set(table) < set(SPACE.findings)
    assert [at["asked"] for at in table["Mass"]["doses"]] == [None, None]
    assert table["Hernia"]["test_patients"] == real.split("test").filter(pl.col("Hernia") == 1)["patient_id"].n_unique()
