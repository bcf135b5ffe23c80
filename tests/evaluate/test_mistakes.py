import dataclasses
from pathlib import Path

import numpy as np
import polars as pl

from tests.evaluate.examples import SPACE, predictions
from trcgl.dataset.store import Dataset
from trcgl.evaluate.mistakes import PER_FINDING, SIDE, most_confident, pictures

EVALUATION = {"findings": {one: {"threshold": 0.3} for one in SPACE.findings}}


def test_the_worst_false_alarm_and_the_worst_miss_come_first():
    one = predictions(20)
    score, truth = np.full_like(one.score, 0.2), np.zeros_like(one.truth)
    score[5, 1], score[6, 2] = 0.99, 0.6  # false alarms
    truth[7, 1], score[7, 1] = 1, 0.01  # a miss
    truth[8, 3] = 1
    told = most_confident(dataclasses.replace(one, score=score, truth=truth), EVALUATION)
    assert [(each.kind, each.image_id) for each in told] == [
        ("false alarm", "image-5"), ("false alarm", "image-6"), ("miss", "image-7"), ("miss", "image-8"),
    ]  # fmt: skip
    assert told[0].finding == "Effusion" and told[2].present == ("Effusion",)


def test_what_is_right_or_unknown_is_no_mistake():
    one = predictions(20)
    truth = np.where(one.score >= 0.3, 1, 0).astype(np.float32)
    truth[::2] = np.nan
    assert most_confident(dataclasses.replace(one, truth=truth), EVALUATION) == []


def test_no_finding_and_no_image_fills_the_page():
    told = most_confident(predictions(200, signal=0.5), EVALUATION)
    assert len({one.image_id for one in told}) == len(told)
    pairs = [(one.kind, one.finding) for one in told]
    assert max(pairs.count(one) for one in pairs) <= PER_FINDING
    assert "No Finding" not in {one.finding for one in told}, "it is not in the means"


def test_pictures_are_small_and_only_of_images_that_are_there():
    told = most_confident(predictions(200, signal=0.5), EVALUATION)
    manifest = pl.DataFrame({"image_id": [one.image_id for one in told[1:]], "row": range(len(told) - 1)})
    images = np.random.default_rng(0).integers(0, 255, (len(told), 2 * SIDE, 2 * SIDE)).astype(np.uint8)
    dataset = Dataset(Path(), {}, SPACE, manifest, images, None)
    shown = pictures(told, dataset)
    assert set(shown) == {one.image_id for one in told[1:]}
    assert all(uri.startswith("data:image/png;base64,") and len(uri) < 100_000 for uri in shown.values())
    assert pictures(told, dataclasses.replace(dataset, images=None)) == {}
