"""Dose and schedule are chosen by val; predictions on test must not matter."""

import numpy as np
import pytest

from tests.dataset.small_dataset import SPACE, write_dataset
from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.core.recipe import Recipe
from trcgl.dataset.manifest import label_array
from trcgl.dataset.store import open_dataset
from trcgl.evaluate.predictions import Predictions, write_predictions
from trcgl.metrics.average_precision import AVERAGE_PRECISION
from trcgl.study.choice import Setting, choose, val_tail
from trcgl.study.worker import Job


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(write_dataset(tmp_path_factory.mktemp("data") / "small"))


def finished(folder, dataset, name, seed, *, val, test, status="finished"):
    """A run that is done; `val` and `test` say how well it tells the findings apart there."""
    job = Job(name, seed, folder / name / f"seed-{seed}", dataset.folder, Recipe(), None)
    for split, skill in (("val", val), ("test", test)):
        rows = dataset.split(split)
        truth = np.nan_to_num(label_array(rows, SPACE))
        noise = np.random.default_rng(seed).normal(size=truth.shape)
        logit = (skill * truth + noise).astype(np.float32)
        predictions = Predictions.from_manifest(rows, SPACE, logit=logit, score=1 / (1 + np.exp(-logit)))
        write_predictions(job.folder / "predictions" / f"{split}.parquet", predictions)
    storage.write_json(job.outcome, {"status": status, "metrics": {"mAP_tail": test / 10}})
    return job


def candidates(folder, dataset, skills):
    """Runs of two doses and two schedules, by (dose, schedule): (skill on val, skill on test)."""
    return [
        (Setting(*key), [finished(folder, dataset, Setting(*key).name, seed, val=val, test=test) for seed in (0, 1)])
        for key, (val, test) in skills.items()
    ]


SKILLS = {
    (0.25, "mix"): (0.5, 9.0),
    (0.25, "pretrain"): (3.0, 0.0),
    (1.0, "mix"): (0.0, 9.0),
    (1.0, "pretrain"): (1, 9),
}


def test_the_best_on_val_is_chosen_although_test_disagrees(dataset, tmp_path):
    runs = candidates(tmp_path, dataset, SKILLS)
    choice = choose(runs, SPACE)
    assert (choice["dose"], choice["schedule"]) == (0.25, "pretrain")
    assert len(choice["candidates"]) == 4
    predictions = [val_tail(job, SPACE) for job in runs[1][1]]
    assert choice["candidates"][1]["values"] == predictions
    assert choice["candidates"][1]["mean"] == pytest.approx(np.mean(predictions))


def test_the_choice_does_not_depend_on_test(dataset, tmp_path):
    turned = {key: (val, 9.0 - test) for key, (val, test) in SKILLS.items()}
    first = choose(candidates(tmp_path / "one", dataset, SKILLS), SPACE)
    assert choose(candidates(tmp_path / "other", dataset, turned), SPACE) == first
    without = candidates(tmp_path / "third", dataset, SKILLS)
    for _, jobs in without:
        for job in jobs:
            (job.folder / "predictions" / "test.parquet").unlink()
    assert choose(without, SPACE) == first
    on_val = {key: (9.0 if key == (1.0, "mix") else val, test) for key, (val, test) in SKILLS.items()}
    assert choose(candidates(tmp_path / "fourth", dataset, on_val), SPACE)["dose"] == 1.0


def test_the_score_is_mean_average_precision_of_the_tail_on_val(dataset, tmp_path):
    job = finished(tmp_path, dataset, "run", 0, val=1.0, test=1.0)
    truth = label_array(dataset.split("val"), SPACE)
    noise = np.random.default_rng(0).normal(size=truth.shape)
    score = (np.nan_to_num(truth) + noise).astype(np.float32)
    place = SPACE.index("Hernia")
    assert val_tail(job, SPACE) == pytest.approx(AVERAGE_PRECISION(truth[:, place], score[:, place]).value)


def test_the_smaller_dose_is_chosen_of_equals_and_a_setting_that_lost_a_seed_last(dataset, tmp_path):
    equal = candidates(tmp_path / "equal", dataset, {(0.25, "mix"): (1.0, 0.0), (4.0, "mix"): (1.0, 5.0)})
    assert choose(equal, SPACE)["dose"] == 0.25
    runs = candidates(tmp_path / "lost", dataset, {(0.25, "mix"): (9.0, 0.0), (4.0, "mix"): (0.5, 0.0)})
    storage.write_json(runs[0][1][1].outcome, {"status": "diverged", "why": "loss"})
    assert choose(runs, SPACE)["dose"] == 4.0
    for _, jobs in runs:
        for job in jobs:
            storage.write_json(job.outcome, {"status": "diverged", "why": "loss"})
    with pytest.raises(DataError, match="every run with synthetic images diverged"):
        choose(runs, SPACE)
