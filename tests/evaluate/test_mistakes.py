import dataclasses
from pathlib import Path

import numpy as np
import polars as pl

from tests.evaluate.examples import SPACE, predictions
from trcgl.dataset.store import Dataset
from trcgl.evaluate.mistakes import PER_FINDING, SIDE, most_confident, pictures

EVALUATION = {"findings": {finding: {"threshold": 0.3} for finding in SPACE.findings}}


def test_the_worst_false_alarm_and_the_worst_miss_come_first():
    example = predictions(20)
    score, truth = np.full_like(example.score, 0.2), np.zeros_like(example.truth)
    score[5, 1], score[6, 2] = 0.99, 0.6  # false alarms
    truth[7, 1], score[7, 1] = 1, 0.01  # a miss
    truth[8, 3] = 1
    mistakes = most_confident(dataclasses.replace(example, score=score, truth=truth), EVALUATION)
    assert [(mistake.kind, mistake.image_id) for mistake in mistakes] == [
        ("false alarm", "image-5"), ("false alarm", "image-6"), ("miss", "image-7"), ("miss", "image-8"),
    ]  # fmt: skip
    assert mistakes[0].finding == "Effusion" and mistakes[2].present == ("Effusion",)


def test_what_is_right_or_unknown_is_no_mistake():
    example = predictions(20)
    truth = np.where(example.score >= 0.3, 1, 0).astype(np.float32)
    truth[::2] = np.nan
    assert most_confident(dataclasses.replace(example, truth=truth), EVALUATION) == []


def test_no_finding_and_no_image_fills_the_page():
    mistakes = most_confident(predictions(200, signal=0.5), EVALUATION)
    assert len({mistake.image_id for mistake in mistakes}) == len(mistakes)
    pairs = [(mistake.kind, mistake.finding) for mistake in mistakes]
    assert max(pairs.count(pair) for pair in pairs) <= PER_FINDING
    assert "No Finding" not in {mistake.finding for mistake in mistakes}, "it is not in the means"


def test_pictures_are_small_and_only_of_images_that_are_there():
    mistakes = most_confident(predictions(200, signal=0.5), EVALUATION)
    manifest = pl.DataFrame(
        {"image_id": [mistake.image_id for mistake in mistakes[1:]], "row": range(len(mistakes) - 1)}
    )
    images = np.random.default_rng(0).integers(0, 255, (len(mistakes), 2 * SIDE, 2 * SIDE)).astype(np.uint8)
    dataset = Dataset(Path(), {}, SPACE, manifest, images, None)
    shown = pictures(mistakes, dataset)
    assert set(shown) == {mistake.image_id for mistake in mistakes[1:]}
    assert all(uri.startswith("data:image/png;base64,") and len(uri) < 100_000 for uri in shown.values())
    assert pictures(mistakes, dataclasses.replace(dataset, images=None)) == {}
