"""A whole study, small: interrupted, repeated, shared between processes, and with runs that go wrong."""

import dataclasses
import fcntl
import json
import signal
import subprocess
import sys
import time

import pytest

from tests.dataset.small_dataset import write_dataset
from tests.study import small_study
from trcgl.core.errors import DataError, RecipeError
from trcgl.core.recipe import to_json
from trcgl.study.arms import Arm
from trcgl.study.peers import PEERS
from trcgl.study.plan import Plan, against_baseline, comparable
from trcgl.study.results import earlier
from trcgl.study.study import ablate, peers, study
from trcgl.study.wording import sentences

TABLES = ("table.md", "table.csv", "table.json", "intervals.svg", "study.json")


@pytest.fixture(scope="module")
def finished(dataset, recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "study"
    return out, peers(dataset, recipe, out, arms=("trcgl", "linear", "asl"), seeds=2)


def start(dataset, recipe, out, *arms):
    """The command line in a process of its own."""
    stored = out.with_name(f"{out.name}-recipe.json")
    stored.write_text(to_json(recipe))
    command = ["study", "peers", dataset, "--recipe", stored, "--out", out, "--seeds", "2", "--arms", *arms]
    return subprocess.Popen(
        [sys.executable, "-m", "trcgl", *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(what, seconds=600):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def tables(out):
    return {name: (out / name).read_bytes() for name in TABLES}


@pytest.mark.slow
def test_the_miniature_study_is_the_same_whether_it_is_interrupted_or_not(tmp_path):
    data, base = small_study.phantoms(tmp_path / "phantom"), small_study.recipe()
    whole = tmp_path / "whole"
    table = peers(data, base, whole, arms=small_study.ARMS, seeds=small_study.SEEDS)
    assert [arm["seeds"] for arm in table["arms"].values()] == [[0, 1], [0, 1]]

    torn = tmp_path / "torn"
    first = start(data, base, torn, *small_study.ARMS)
    wait_for(lambda: list(torn.glob("runs/*/seed-0/recipe.json")))
    first.send_signal(signal.SIGTERM)
    assert first.wait(600) == 143
    assert not list(torn.glob("table.*"))
    second = start(data, base, torn, *small_study.ARMS)
    wait_for(lambda: list(torn.glob("runs/*/seed-0.json")))
    second.kill()
    second.wait()
    made = {path: path.stat().st_mtime_ns for path in torn.glob("runs/*/seed-*.json")}
    last = start(data, base, torn, *small_study.ARMS)
    assert last.wait(600) == 0
    assert tables(torn) == tables(whole)
    assert all(path.stat().st_mtime_ns == then for path, then in made.items())


def test_the_same_command_again_keeps_every_run_and_writes_the_same_table(finished, dataset, recipe):
    out, table = finished
    before, runs = tables(out), {path: path.stat().st_mtime_ns for path in out.glob("runs/*/seed-*.json")}
    assert len(runs) == 6
    assert peers(dataset, recipe, out, arms=("trcgl", "linear", "asl"), seeds=2) == table
    assert tables(out) == before
    assert {path: path.stat().st_mtime_ns for path in runs} == runs


def test_more_arms_and_seeds_join_a_study_later(dataset, recipe, tmp_path):
    out = tmp_path / "study"
    peers(dataset, recipe, out, arms=("trcgl", "linear"), seeds=1)
    first = (out / "runs" / "linear" / "seed-0.json").stat().st_mtime_ns
    table = peers(dataset, recipe, out, arms=("trcgl", "linear", "focal"), seeds=2)
    assert [arm["seeds"] for arm in table["arms"].values()] == [[0, 1]] * 3
    assert (out / "runs" / "linear" / "seed-0.json").stat().st_mtime_ns == first
    looked = "A table of this study was written before with 1 seed and 1 contrast."
    assert table["earlier"] == [{"seeds": 1, "contrasts": ["linear - trcgl"]}]
    assert looked in (out / "table.md").read_text() and looked in (out / "study.html").read_text()


def test_other_contrasts_of_the_same_number_are_another_look(finished, dataset, recipe):
    out, _ = finished

    def looks(*arms):
        arms = tuple(PEERS[name] for name in arms)
        return earlier(
            Plan("peers", dataset, comparable(recipe), arms, against_baseline(arms, "trcgl", "linear"), 2), out
        )

    assert looks("trcgl", "linear", "asl") == []
    assert looks("trcgl", "linear", "focal") == [{"seeds": 2, "contrasts": ["linear - trcgl", "asl - trcgl"]}]


def test_the_first_contrast_is_primary_and_the_others_are_adjusted(finished):
    _, table = finished
    first, second = table["contrasts"]
    assert (first["arm"], first["against"], first["primary"], first["level"]) == ("linear", "trcgl", True, 0.95)
    assert (second["arm"], second["against"], second["primary"]) == ("asl", "trcgl", False)
    values = [table["arms"][name]["metrics"]["mAP_tail"]["values"] for name in ("linear", "trcgl")]
    gains = [linear - trcgl for linear, trcgl in zip(*values, strict=True)]
    assert first["value"] == pytest.approx(sum(gains) / 2)
    assert table["verdict"].startswith(("linear recognizes", "No difference between linear and trcgl"))


def test_the_folder_holds_the_tables_a_picture_a_page_and_the_cost(finished):
    out, table = finished
    assert json.loads((out / "table.json").read_text()) == json.loads(json.dumps(table))
    assert table["verdict"] in (out / "table.md").read_text()
    page = (out / "study.html").read_text()
    assert "<svg" in page and "Research use only" in page and all(sentence in page for sentence in sentences(table))
    assert len((out / "table.csv").read_text().splitlines()) == 1 + 6
    cost = json.loads((out / "cost.json").read_text())["arms"]["linear"]
    assert cost["images_per_second"] > 0 and cost["peak_memory_mib"] > 50
    assert cost["parameters"] == table["arms"]["linear"]["parameters"] < table["arms"]["trcgl"]["parameters"]


@pytest.mark.slow
def test_two_processes_share_a_study_and_come_to_the_same_table(dataset, recipe, finished, tmp_path):
    out = tmp_path / "study"
    both = [start(dataset, recipe, out, "trcgl", "linear", "asl") for _ in range(2)]
    for process in both:
        _, stderr = process.communicate(timeout=600)
        assert process.returncode == 0, stderr
    assert tables(out) == tables(finished[0])
    for log in out.glob("runs/*/*.log"):
        assert log.read_text().count("is finished") == 1


def test_a_run_that_diverges_is_reported_and_not_averaged(dataset, recipe, tmp_path):
    wild = Arm("wild", {"train.backbone_lr": 1e20, "train.head_lr": 1e20, "train.clip_gradient": 0.0})
    arms = (PEERS["linear"], PEERS["asl"], wild)
    plan = Plan("peers", dataset, comparable(recipe), arms, against_baseline(arms, "linear", "asl"), 2)
    table = study(plan, tmp_path / "study")
    assert table["arms"]["wild"]["seeds"] == [] and set(table["arms"]["wild"]["diverged"]) == {"0", "1"}
    assert table["arms"]["wild"]["metrics"]["mAP_tail"]["mean"] is None
    assert "Diverged, and not averaged: wild seed 0, wild seed 1." in table["verdict"]
    assert table["contrasts"][0]["interval"] and table["contrasts"][1]["interval"] is None
    assert "diverged after step" in (tmp_path / "study" / "table.md").read_text()


def test_an_arm_that_cannot_be_built_is_refused_before_anything_is_trained(dataset, recipe, tmp_path):
    small = Arm("wide", {"model.backbone": "no_such_network"})
    arms = (PEERS["linear"], small)
    plan = Plan("peers", dataset, comparable(recipe), arms, against_baseline(arms, "linear", None), 1)
    with pytest.raises(RecipeError, match="wide: .*no_such_network"):
        study(plan, tmp_path / "study")
    assert not list((tmp_path / "study").glob("runs/*/seed-*"))


@pytest.mark.parametrize("wrong", [{"weights": "no-such-file.safetensors"}, {"image_size": 1}], ids=str)
def test_weights_or_settings_that_fail_leave_the_folder_to_the_corrected_command(wrong, dataset, recipe, tmp_path):
    broken = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **wrong))
    with pytest.raises(RecipeError, match="trcgl: "):
        peers(dataset, broken, tmp_path / "study", arms=("trcgl", "linear"), seeds=1)
    assert not (tmp_path / "study").exists()
    assert peers(dataset, recipe, tmp_path / "study", arms=("trcgl", "linear"), seeds=1)["arms"]


def test_an_unknown_peer_is_named_beside_the_known_ones(dataset, recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"unknown arm 'resnet51'; there are trcgl, linear, .*resnet50"):
        peers(dataset, recipe, tmp_path / "study", arms=("linear", "resnet51"))
    assert not (tmp_path / "study").exists()


def test_a_dataset_without_a_test_split_is_refused(recipe, tmp_path):
    data = write_dataset(tmp_path / "data", test=0)
    with pytest.raises(DataError, match="has no test split, and a study reports on test"):
        peers(data, recipe, tmp_path / "study", arms=("trcgl", "linear"))


def test_the_folder_of_another_dataset_or_question_is_refused(finished, dataset, recipe, tmp_path):
    out, _ = finished
    other = write_dataset(tmp_path / "data", seed=1)
    with pytest.raises(RecipeError, match=r"another dataset \(small-0\) than"):
        peers(other, recipe, out, arms=("trcgl", "linear", "asl"), seeds=2)
    with pytest.raises(RecipeError, match="baseline: trcgl → linear"):
        peers(dataset, recipe, out, arms=("trcgl", "linear", "asl"), seeds=2, baseline="linear")
    with pytest.raises(RecipeError, match=r"train\.head_lr: "):
        changed = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, head_lr=0.5))
        peers(dataset, changed, out, arms=("trcgl", "linear", "asl"), seeds=2)


def test_an_ablation_reports_gates_and_edges(dataset, recipe, tmp_path):
    table = ablate(dataset, recipe, tmp_path / "study", seeds=1)
    assert set(table["arms"]["full"]["gates"]) == {"reweighting", "attention", "graph"}
    assert table["arms"]["without_attention"]["gates"]["attention"]["values"] == [0.0]
    assert table["edges"][-2:] == [
        {"name": "identity", "edges": 0, "pairs": 6},
        {"name": "learned", "edges": 6, "pairs": 6},
    ]
    assert table["contrasts"][0]["why"].startswith("one seed")
    assert "Edges of the label graph" in (tmp_path / "study" / "table.md").read_text()


def test_a_killed_study_leaves_no_run_behind_that_goes_on_alone(dataset, recipe, tmp_path):
    out = tmp_path / "study"
    long = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, epochs=4000))
    process = start(dataset, long, out, "trcgl", "linear")
    log = out / "runs" / "trcgl" / "seed-0" / "metrics.jsonl"
    wait_for(lambda: log.exists() and log.stat().st_size)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with open(out / "runs" / "trcgl" / "seed-0.lock") as lock:
        wait_for(lambda: not _busy(lock))


def _busy(lock):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def contrast(arm, against, low, high):
    return {
        "arm": arm,
        "against": against,
        "value": (low + high) / 2,
        "interval": [low, high],
        "detectable": 0.1,
        "seeds": [0, 1],
    }


def test_a_verdict_names_both_arms_where_they_are_not_all_compared_with_one():
    arms = {"full": {"diverged": []}, "plain": {"diverged": []}}
    ladder = [
        contrast("full", "plain", 0.1, 0.2),
        contrast("full", "rung", -0.2, 0.1),
        contrast("rung", "plain", 0.1, 0.3),
    ]
    verdict = " ".join(sentences({"contrasts": ladder, "arms": arms}))
    assert (
        "higher rung - plain; lower none; no difference shown for full - rung (detectable with 80 % power: 0.100)."
        in verdict
    )
    peers = [contrast("linear", "trcgl", -0.2, -0.1), contrast("csra", "trcgl", -0.2, -0.1)]
    assert "lower csra." in " ".join(sentences({"contrasts": peers, "arms": arms}))
