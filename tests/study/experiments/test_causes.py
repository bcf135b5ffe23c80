"""The paper's two causes, put to runs in which they are planted, and to runs in which they are not."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.dataset.small_dataset import write_dataset
from tests.study import small_study
from trcgl.core.errors import DataError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.evaluate.predictions import Predictions, write_predictions
from trcgl.metrics.auroc import AUROC
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.phantom.render import PhantomSpec, flipped, lesion, render
from trcgl.study.ablation import ablation
from trcgl.study.experiments.causes import causes, questions
from trcgl.study.experiments.causes_tables import answers, tables_of
from trcgl.study.experiments.counterfactuals import lesions
from trcgl.study.experiments.strata import (
    by_lesion,
    by_partner,
    counterfactual,
    measure,
    stratum,
    thirds,
    usual_partners,
)
from trcgl.study.plan import Plan, comparable
from trcgl.study.results import Outcome
from trcgl.study.runner import jobs_of
from trcgl.study.statistics import Runs, difference, mean
from trcgl.study.study import ablate

PATIENTS, POSITIVES = 900, 120
ONES = np.ones(PATIENTS)
SPACE = LabelSpace(
    "company",
    ("Devices", "Heart", "Air", "Line", "Normal"),
    {"Devices": "head", "Heart": "head", "Air": "tail", "Line": "tail", "Normal": "head"},
    "name",
    normal="Normal",
)


def score_of(rng, truth, boost, hardness):
    """Probabilities of a run that lifts positives by `boost`."""
    return 1 / (1 + np.exp(-(boost * truth + hardness + 0.4 * rng.normal(size=len(truth)))))


def by_area(boosts, *, seed, runs=3):
    """AP by area of the runs of an arm that lifts small, middle and large lesions by these boosts."""
    same = np.random.default_rng(7)
    truth = (np.arange(PATIENTS) < POSITIVES).astype(float)
    area = np.where(truth == 1, same.random(PATIENTS), np.nan)
    hardness = same.normal(size=PATIENTS)
    boost = np.zeros(PATIENTS)
    for inside, lift in zip(thirds(truth, area), boosts, strict=True):
        boost[inside] = lift
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(runs):
        cut = by_lesion("area", "Air", truth, score_of(rng, truth, boost, hardness), ONES, area)
        found.append(measure(cut, [], np.arange(PATIENTS), replicates=200, seed=0))
    return found


def runs_of(found, key):
    return Runs(
        tuple(range(len(found))),
        np.array([run.values[key] for run in found]),
        np.array([run.replicates[key] for run in found]),
    )


def gap(found, key="area/gap/AP"):
    return mean(runs_of(found, key), found[0].freedom[key])


def change(arm, against, key="area/gap/AP"):
    return difference(runs_of(arm, key), runs_of(against, key), arm[0].freedom[key])


def test_a_deficit_of_small_lesions_is_found_where_it_is_planted_and_not_where_there_is_none():
    low, high = gap(by_area((1.0, 2.0, 3.0), seed=1)).interval()
    assert 0.2 < low < high
    low, high = gap(by_area((2.0, 2.0, 2.0), seed=2)).interval()
    assert low < 0 < high and high - low < 0.4


def test_a_module_that_mends_small_lesions_alone_is_distinguished_from_a_module_that_does_nothing():
    with_it, without, same = (
        by_area(boosts, seed=seed) for seed, boosts in enumerate(((2.5, 3, 3), (1, 3, 3), (1, 3, 3)))
    )
    assert change(with_it, without, "area/small/AP").interval()[0] > 0
    assert change(with_it, without).interval()[1] < 0
    for key in ("area/small/AP", "area/gap/AP"):
        low, high = change(same, without, key).interval()
        assert low < 0 < high


def test_thirds_hold_as_many_positives_each_and_none_of_unknown_size():
    truth = np.array([1.0] * 12 + [0.0, np.nan])
    value = np.array([11.0, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, np.nan, np.nan, 0])
    small, middle, large = thirds(truth, value)
    assert [np.flatnonzero(third).tolist() for third in (small, middle, large)] == [[8, 9, 10], [4, 5, 6], [0, 1, 2]]


def test_a_stratum_is_as_prevalent_as_the_finding_by_hand():
    truth, score = np.array([1.0, 1, 0, 0, 0, 0]), np.array([0.9, 0.5, 0.8, 0.4, 0.3, 0.2])
    # Two positives to four negatives. Alone against all four negatives the one at 0.5 counts twice, behind one of them;
    # against two negatives it counts once.
    large = stratum("area", "large", "Air", truth, score, np.ones(6), np.array([0, 1, 1, 1, 1, 1], bool))
    assert AVERAGE_PRECISION(large.truth, large.score, large.weight).value == pytest.approx(2 / 3)
    assert AUROC(large.truth, large.score, large.weight).value == pytest.approx(3 / 4)
    apart = stratum("partner", "with", "Air", truth, score, np.ones(6), np.array([0, 1, 1, 0, 1, 0], bool))
    assert AVERAGE_PRECISION(apart.truth, apart.score, apart.weight).value == pytest.approx(1 / 2)
    weighted = stratum("area", "large", "Air", truth, score, np.array([3.0, 1, 2, 1, 1, 0]), large.truth >= 0)
    assert weighted.weight[1] == pytest.approx(4) and weighted.positives == 1


def test_the_mean_over_findings_and_the_gap_are_those_of_the_strata():
    rng = np.random.default_rng(0)
    truth = (np.arange(100) < 30).astype(float)
    strata = [
        part
        for name in ("Air", "Line")
        for part in by_lesion("area", name, truth, rng.random(100), ONES[:100], rng.random(100))
    ]
    found = measure(strata, [], np.arange(100), replicates=0, seed=0)
    small = [AVERAGE_PRECISION(part.truth, part.score, part.weight).value for part in strata if part.part == "small"]
    assert found.values["area/small/AP"] == pytest.approx(np.mean(small))
    assert found.findings["area/small/AP"] == pytest.approx(dict(zip(("Air", "Line"), small, strict=True)))
    assert found.values["area/gap/AP"] == pytest.approx(found.values["area/large/AP"] - found.values["area/small/AP"])
    assert not found.replicates


def company(reliance, seed=0):
    """Truth, score, partner and score with the partner flipped, of a run whose log-odds rely on the partner so much."""
    rng = np.random.default_rng(seed)
    truth = (np.arange(PATIENTS) < POSITIVES).astype(float)
    head = (rng.random(PATIENTS) < np.where(truth == 1, 0.6, 0.2)).astype(float)
    odds = 1.5 * truth - 2 + rng.normal(size=PATIENTS)
    return truth, 1 / (1 + np.exp(-odds - reliance * head)), head, 1 / (1 + np.exp(-odds - reliance * (1 - head)))


@pytest.mark.parametrize("reliance", [0.0, 1.5])
def test_what_the_partner_alone_adds_to_the_score_is_recovered(reliance):
    truth, score, head, other = company(reliance)
    strata, shift = counterfactual("Air", truth, score, ONES, head, other)
    found = measure(strata, [shift], np.arange(PATIENTS), replicates=120, seed=0)
    assert found.values["counterfactual/shift"] == pytest.approx(reliance, abs=1e-6)
    assert found.values["counterfactual/with/AP"] == pytest.approx(found.values["counterfactual/without/AP"])
    replicates = found.replicates["counterfactual/gap/AP"]
    assert (replicates > 0.1).all() if reliance else np.allclose(replicates, 0)


def test_images_as_they_come_are_compared_with_their_own_kind():
    truth, score, head, _ = company(1.5)
    (there, gone), shift = by_partner("Air", truth, score, ONES, head)
    inside = head == 1
    assert there.positives == (truth[inside] == 1).sum() and gone.positives == (truth[~inside] == 1).sum()
    expected = AUROC(truth[inside], score[inside]).value
    assert AUROC(there.truth, there.score, there.weight).value == pytest.approx(expected)
    found = measure([there, gone], [shift], np.arange(PATIENTS), replicates=0, seed=0)
    negative, odds = truth == 0, np.log(score / (1 - score))
    means = odds[negative & inside].mean() - odds[negative & ~inside].mean()
    assert found.values["partner/shift"] == pytest.approx(means)


def test_too_few_images_are_a_reason_not_a_number():
    truth = np.array([1.0] * 14 + [0.0] * 20)
    with pytest.raises(DataError, match="^14 positives of known area, 15 are needed$"):
        by_lesion("area", "Air", truth, truth / 2, np.ones(34), np.arange(34.0))
    head = np.array([1.0] * 3 + [0.0] * 21 + [1.0] * 10)
    with pytest.raises(DataError, match="^3 positives with the partner; 5 are needed$"):
        by_partner("Air", truth, truth / 2, np.ones(34), head)
    with pytest.raises(DataError, match="^4 images with or without the finding, 5 are needed$"):
        counterfactual("Air", truth[10:], truth[10:], ONES[:24], head[10:], truth[10:])


def table(devices, heart, air, line):
    columns = {"Devices": devices, "Heart": heart, "Air": air, "Line": line}
    return pl.DataFrame({**columns, "Normal": [0] * len(air)}, schema=dict.fromkeys(SPACE.findings, pl.Int8))


def test_the_partner_is_the_head_finding_of_the_highest_lift_if_any_comes_more_often_than_by_chance():
    train = table(
        [1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1, 0]
    )
    found = usual_partners(train, SPACE)
    assert (found["Air"].finding, found["Air"].share) == ("Devices", pytest.approx(2 / 3))
    assert found["Air"].lift == pytest.approx((2 / 3) / (2 / 8))  # of Heart: 1 / (5 / 8)
    assert found["Line"] == "no head finding occurs with it in train more often than by chance"


def test_the_partner_depends_on_train_alone(dataset, recipe, tmp_path):
    opened = open_dataset(dataset)
    arms, contrasts = ablation(recipe, synthetic=False)
    plan = Plan("ablation", dataset, comparable(recipe), arms, contrasts, 1)

    def together(split):
        here = pl.col("split") == split
        rows = opened.manifest.with_columns(
            Hernia=pl.when(here).then(pl.col("Mass")).otherwise(pl.col("Hernia")),
        )
        return causes(plan, dataclasses.replace(opened, manifest=rows), [], tmp_path)["partners"]["Hernia"]

    assert together("train")["finding"] == "Mass" and together("train")["share"] == 1
    assert together("test") == together("val") != together("train")


def test_the_questions_pair_full_with_the_arms_that_lack_a_module(recipe):
    base = comparable(recipe)
    arms, contrasts = ablation(base, synthetic=False)
    asked = questions(Plan("ablation", Path("nowhere"), base, arms, contrasts, 1))
    lacking = {
        question.contrast.what: next(arm for arm in arms if arm.name == question.contrast.against)
        for question in asked[1:]
    }
    off = {what: arm.recipe(base, 0).model.switched_off for what, arm in lacking.items()}
    assert off == {
        "channel reweighting": ("reweighting",),
        "class-aware attention": ("attention",),
        "the label graph": ("graph",),
    }
    assert [question.kinds for question in asked[1:]] == [("area", "contrast")] * 2 + [("partner", "counterfactual")]


def with_interval(opened, recipe, out):
    """The part of the table that two seeds of full and plain lead to, with random scores."""
    base = comparable(recipe)
    arms, contrasts = ablation(base, synthetic=False)
    two = tuple(arm for arm in arms if arm.name in ("full", "plain"))
    plan = Plan("ablation", opened.folder, base, two, contrasts[:1], 2)
    rows, rng = opened.split("test"), np.random.default_rng(0)
    outcomes = []
    for job in jobs_of(plan, out):
        logit = rng.normal(size=(rows.height, len(opened.space.findings))).astype(np.float32)
        made = Predictions.from_manifest(rows, opened.space, logit=logit, score=1 / (1 + np.exp(-logit)))
        (job.folder / "predictions").mkdir(parents=True)
        write_predictions(job.folder / "predictions" / "test.parquet", made)
        outcomes.append(Outcome(job, {"status": "finished"}))
    return causes(plan, opened, outcomes, out)


def test_a_dataset_without_boxes_gives_the_reason(dataset, recipe, tmp_path):
    found = with_interval(open_dataset(dataset), recipe, tmp_path)
    reason = found["kinds"]["area"]["left_out"]["Hernia"]
    assert reason == "the dataset has no boxes, so that the size of lesions is not known"
    assert found["kinds"]["area"]["positives"] == {} and not [key for key in found["arms"]["full"] if "area" in key]
    assert any(reason in cell for table in tables_of(found) for row in table.rows for cell in row)


def test_a_dataset_with_boxes_is_cut_by_their_area_and_reported_with_intervals(recipe, tmp_path):
    opened = open_dataset(write_dataset(tmp_path / "data", test=160))
    ill = opened.split("test").filter(pl.col("Hernia") == 1)["image_id"]
    side = np.linspace(0.1, 0.9, len(ill))
    boxes = pl.DataFrame({"image_id": ill, "finding": "Hernia", "x": 0.0, "y": 0.0, "w": side, "h": side})
    found = with_interval(dataclasses.replace(opened, boxes=boxes), recipe, tmp_path)
    third = len(ill) // 3
    assert found["kinds"]["area"]["positives"]["Hernia"] == {"small": third, "middle": third, "large": third}
    gap = next(contrast for contrast in found["contrasts"] if contrast["key"] == "area/gap/AP")
    arms = [found["arms"][name]["area/gap/AP"]["mean"] for name in ("full", "plain")]
    assert gap["value"] == pytest.approx(arms[0] - arms[1])
    assert gap["interval"][0] < 0 < gap["interval"][1] and gap["detectable"] > 0
    assert "no difference is shown" in answers(found)[0]
    assert found["kinds"]["contrast"]["left_out"]["Hernia"] == "the contrast of a lesion is known on phantoms alone"


def test_boxes_give_the_area_where_there_are_some():
    boxes = pl.DataFrame(
        {
            "image_id": ["a", "a", "b", "a"],
            "finding": ["Air", "Air", "Air", "Heart"],
            **{"x": [0.1] * 4, "y": [0.1] * 4, "w": [0.5, 0.1, 0.2, 1.0], "h": [0.5, 0.1, 0.2, 1.0]},
        }
    )
    opened = Dataset(Path("nowhere"), {"source": "nih"}, SPACE, pl.DataFrame(), None, boxes)
    found = lesions(opened, opened.manifest, ["Air"], Path("nowhere"))
    assert found["area"].to_list() == pytest.approx([0.26, 0.04]) and found["contrast"].null_count() == 2


def test_the_area_and_contrast_of_a_lesion_are_known_for_phantoms():
    spec = PhantomSpec(findings=("Mass", "Pneumothorax"), size=64)
    shown = lesion(spec, "Mass")
    assert shown.area == render(spec).masks["Mass"].mean()
    faint = lesion(dataclasses.replace(spec, difficulty=3.0), "Mass")
    assert 0 < faint.contrast < shown.contrast < 1
    assert lesion(spec, "cardiomegaly") is None
    assert flipped(spec, "Mass").findings == ("Pneumothorax",)
    assert set(flipped(flipped(spec, "Mass"), "Mass").findings) == set(spec.findings)


@pytest.mark.slow
def test_an_ablation_of_phantoms_tests_both_causes_and_gives_the_same_table_again(tmp_path):
    data = small_study.phantoms(tmp_path / "phantom", train_images=400, positives_per_finding=15)
    found = ablate(data, small_study.recipe(), tmp_path / "study", seeds=2)
    made = found["causes"]
    cut = made["kinds"]["area"]
    assert {*cut["positives"], *cut["left_out"]} == set(open_dataset(data).space.in_group("tail"))
    assert set(cut["left_out"]) <= {"calcified densities"}  # many of its dots are smaller than a pixel of 32
    assert made["partners"]["Subcutaneous Emphysema"]["finding"] == "Support Devices"
    counted = made["kinds"]["counterfactual"]["positives"]["Subcutaneous Emphysema"]
    assert counted["with"] == counted["without"] >= 15
    assert all(contrast["interval"] for contrast in made["contrasts"])
    assert len(answers(made)) >= 3 and len(tables_of(made)) >= 5
    stored = json.loads((tmp_path / "study" / "table.json").read_text())
    assert stored == json.loads(json.dumps(found))
    for path in (tmp_path / "study" / "runs").glob("*/causes-*"):
        path.unlink()
    assert ablate(data, small_study.recipe(), tmp_path / "study", seeds=2) == found
