"""The plan of images: real label sets, exact amounts, plans that nest, and a balance of head and normal images."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trcgl.core.errors import DataError, RecipeError
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import Dataset
from trcgl.dataset.synthetic_rows import balancing
from trcgl.generate.plan import SCHEMA, plan
from trcgl.generate.prompts import PromptFormat

SPACE = LabelSpace(
    "five",
    ("Edema", "Hernia", "Azygos lobe", "Normal", "Support devices"),
    {"Edema": "medium", "Hernia": "tail", "Azygos lobe": "tail", "Normal": "head", "Support devices": "head"},
    "name",
    normal="Normal",
)
LABELS = {  # image to its findings; two images a patient
    **{f"n{i}": {"Normal"} for i in range(8)},
    **{f"d{i}": {"Support devices"} for i in range(6)},
    **{f"de{i}": {"Support devices", "Edema"} for i in range(4)},
    "h0": {"Hernia"},
    "h1": {"Hernia", "Edema"},
    "h2": {"Hernia", "Support devices"},
    "a0": {"Azygos lobe", "Hernia"},
    "odd": {"Normal", "Edema"},
    "held-out": {"Azygos lobe"},
    "aside": {"Azygos lobe"},
}
LATERAL = ("n0", "h1", "a0")


def dataset(space=SPACE, labels=LABELS, source="table"):
    rows = [
        {
            "image_id": image,
            "patient_id": f"p{place // 2 if image not in ('held-out', 'aside') else image}",
            "split": "test" if image == "held-out" else "train",
            "view": "lateral" if image in LATERAL else "frontal",
            "set_aside": "none of the findings" if image == "aside" else None,
            **{name: int(name in findings) if name != "Edema" or name in findings else None for name in space.findings},
        }
        for place, (image, findings) in enumerate(labels.items())
    ]
    return Dataset(Path("five"), {"source": source}, space, pl.DataFrame(rows), None, None)


def per_target(planned):
    return dict(planned.group_by("target").len().iter_rows())


def test_tail_findings_are_the_default_and_an_equal_number_of_normal_and_head_images_comes_along():
    planned = plan(dataset(), each=5)
    assert planned.schema == pl.Schema(SCHEMA)
    assert per_target(planned) == {"Hernia": 5, "Azygos lobe": 5, "Normal": 5, "Support devices": 5}


def test_medium_findings_are_balanced_too():
    assert per_target(plan(dataset(), ["Edema"], each=7)) == {"Edema": 7, "Normal": 4, "Support devices": 3}


def test_head_findings_and_normals_need_no_balance():
    assert per_target(plan(dataset(), ["Normal", "Support devices"], each=4)) == {"Normal": 4, "Support devices": 4}


def test_a_label_set_is_that_of_a_real_training_row_of_the_target():
    for row in plan(dataset(), [*SPACE.findings], each=9).iter_rows(named=True):
        source, wanted = row["source_image_id"], row["target"]
        assert source not in ("held-out", "aside")
        assert wanted in row["findings"]
        assert set(row["findings"]) == LABELS[source] - ({"Normal"} if LABELS[source] != {"Normal"} else set())
        patients = dataset().manifest.filter(pl.col("image_id") == source)["patient_id"]
        assert row["patient_id"] == patients.item()


def test_every_row_of_a_target_is_used_before_one_is_used_again():
    planned = plan(dataset(), ["Hernia"], each=8).filter(pl.col("target") == "Hernia")["source_image_id"].to_list()
    assert sorted(planned[:4]) == ["a0", "h0", "h1", "h2"]
    assert planned[4:] == planned[:4]


def test_normal_is_asked_for_only_where_nothing_else_is():
    normal = plan(dataset(), ["Normal"], each=20).filter(pl.col("target") == "Normal")
    assert set(normal["prompt"]) == {"normal chest radiograph"}
    assert "odd" not in normal["source_image_id"].to_list()


NAMED = PromptFormat(SPACE, views=True)


def test_images_have_the_view_of_their_source_and_their_prompts_name_it():
    planned = plan(dataset(), ["Hernia"], each=8, views="all", prompts=NAMED)
    for row in planned.iter_rows(named=True):
        assert row["view"] == ("lateral" if row["source_image_id"] in LATERAL else "frontal")
        assert f"{row['view']} chest radiograph" in row["prompt"]
    assert set(planned["view"]) == {"frontal", "lateral"}


def test_the_view_of_images_can_be_chosen_and_is_frontal_by_default():
    for views, sources in (("auto", {"h0", "h2"}), ("frontal", {"h0", "h2"}), ("lateral", {"h1", "a0"})):
        planned = plan(dataset(), ["Hernia"], each=8, views=views, prompts=NAMED).filter(target="Hernia")
        assert set(planned["source_image_id"]) == sources
        assert planned.height == 8


def test_a_finding_without_images_of_the_view_uses_its_images_of_all_views():
    planned = plan(dataset(), ["Azygos lobe"], each=2, prompts=NAMED).filter(target="Azygos lobe")
    assert planned["view"].to_list() == ["lateral", "lateral"]


def test_the_dose_counts_real_images_of_all_views():
    planned = plan(dataset(), ["Hernia"], dose=1.0, prompts=NAMED)
    assert per_target(planned)["Hernia"] == 4


def test_prompts_without_views_leave_the_view_of_an_image_unknown():
    planned = plan(dataset(), ["Hernia"], each=8)
    assert planned["view"].null_count() == planned.height
    assert set(planned.filter(target="Hernia")["source_image_id"]) == {"h0", "h1", "h2", "a0"}


def test_what_a_short_prompt_leaves_out_is_recorded_and_the_target_stays():
    wording = PromptFormat(SPACE, fits=lambda prompt: len(prompt.findings) < 2)
    planned = plan(dataset(), ["Support devices"], each=12, prompts=wording).filter(target="Support devices")
    assert set(planned["prompt"]) == {"chest radiograph with support devices"}
    left_out = dict(planned.select("source_image_id", "left_out").iter_rows())
    assert left_out["d0"] == [] and left_out["de0"] == ["Edema"] and left_out["h2"] == ["Hernia"]
    assert all(findings == ["Support devices"] for findings in planned["findings"].to_list())


def test_amounts_by_count_dose_and_each():
    hernia = ["Hernia"]  # four real training images
    assert per_target(plan(dataset(), hernia, count=10))["Hernia"] == 6
    assert per_target(plan(dataset(), hernia, dose=2.5))["Hernia"] == 10
    assert per_target(plan(dataset(), hernia, dose=0.01))["Hernia"] == 1
    assert per_target(plan(dataset(), hernia, each=3))["Hernia"] == 3


@given(st.lists(st.floats(0.05, 20), min_size=2, max_size=2).map(sorted), st.integers(0, 2**32))
def test_a_smaller_dose_is_the_beginning_of_a_larger_one(doses, seed):
    few, many = (plan(dataset(), dose=dose, seed=seed) for dose in doses)
    for target in few["target"].unique():
        of_target = [rows.filter(pl.col("target") == target) for rows in (few, many)]
        assert of_target[0].equals(of_target[1].head(of_target[0].height))


def test_images_have_names_and_seeds_of_their_own_that_follow_from_the_plan_alone():
    planned = plan(dataset(), each=40, seed=7)
    assert planned.equals(plan(dataset(), each=40, seed=7))
    assert planned["image_id"].is_unique().all()
    assert planned["seed"].is_unique().all()
    assert planned["image_id"][0] == "drawn-7-hernia-00000"
    assert "drawn-7-azygos-lobe-00039" in planned["image_id"].to_list()
    assert not set(planned["seed"]) & set(plan(dataset(), each=40, seed=8)["seed"])


def test_findings_that_are_written_alike_do_not_share_names():
    space = LabelSpace("alike", ("Mass", "mass", "?"), dict.fromkeys(("Mass", "mass", "?"), "tail"), "name")
    labels = {"a": {"Mass"}, "b": {"mass"}, "c": {"?"}}
    assert plan(dataset(space, labels), each=3)["image_id"].is_unique().all()


def test_the_order_of_findings_in_prompts_is_shuffled():
    prompts = plan(dataset(), ["Azygos lobe"], each=30).filter(pl.col("target") == "Azygos lobe")["prompt"]
    assert set(prompts) == {
        "chest radiograph with hernia and azygos lobe",
        "chest radiograph with azygos lobe and hernia",
    }


def test_a_label_space_without_normal_or_head_gets_no_balancing_images():
    space = LabelSpace("two", ("Mass", "Edema"), {"Mass": "tail", "Edema": "medium"}, "name")
    assert balancing(space) == ()
    assert per_target(plan(dataset(space, {"a": {"Mass"}, "b": {"Edema"}}), each=3)) == {"Mass": 3}


@pytest.mark.parametrize(
    ("targets", "amount", "message"),
    [
        (["Hernie"], {"each": 1}, "unknown finding 'Hernie'.*Edema, Hernia, Azygos lobe"),
        (["Azygos lobe"], {"each": 1}, "no training row has Azygos lobe.*Name findings"),
        (["Azygos lobe", "Hernia"], {"each": 1}, "no training row has Azygos lobe.*--targets 'Hernia'"),
    ],
)
def test_findings_that_cannot_be_generated_are_named(targets, amount, message):
    labels = {image: findings for image, findings in LABELS.items() if image != "a0"}
    with pytest.raises(DataError, match=message):
        plan(dataset(labels=labels), targets, **amount)


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        ({}, "exactly one of --count, --dose and --each is needed, not none"),
        ({"count": 9, "dose": 1.0}, "not count and dose"),
        ({"count": 3}, "--count 3 is below the real training images of Hernia .4.;?"),
        ({"dose": 0.0}, "positive"),
        ({"dose": float("nan")}, "positive"),
        ({"each": 0}, "at least 1"),
    ],
)
def test_amounts_that_make_no_sense_are_refused(amount, message):
    with pytest.raises(RecipeError, match=message):
        plan(dataset(), **amount)


def test_a_count_that_is_reached_already_is_refused():
    with pytest.raises(RecipeError, match="larger --count"):
        plan(dataset(), ["Hernia"], count=4)


def test_a_label_space_without_tail_needs_targets():
    space = LabelSpace("one", ("Mass",), {"Mass": "head"}, "name")
    with pytest.raises(RecipeError, match="no tail finding.*--targets 'Mass'"):
        plan(dataset(space, {"a": {"Mass"}}), each=1)


def test_a_synthetic_folder_is_refused():
    with pytest.raises(DataError, match="holds synthetic images"):
        plan(dataset(source="synthetic"), each=1)
