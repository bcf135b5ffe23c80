"""What screening keeps and rejects, each reason planted."""

import numpy as np
import pytest

from tests.generate.test_near_duplicates import images
from trcgl.dataset.labels import LabelSpace
from trcgl.generate import screen as screening
from trcgl.generate.screen import (
    BLANK,
    COPY,
    KEPT,
    REPEATED,
    SATURATED,
    SCORES,
    UNRECOGNIZED,
    appearance,
    label_rules,
    measure,
    screen,
    target_score,
    unscreened,
)

SPACE = LabelSpace("three", ("Mass", "Hernia", "Normal"), {}, "name", normal="Normal")


def real(count=300):
    return images(count, seed=3)


def patients(count=300):
    return [f"p{row // 2}" for row in range(count)]


def reference(count=300):
    return measure(real(count), np.arange(count), patients(count))


def rules(threshold=0.5):
    return {name: screening.LabelRule(name, threshold, "given", 9, 9, 0.0) for name in SPACE.findings}


def screened(synthetic, targets=None, score=None, against=None):
    targets = targets or ["Mass"] * len(synthetic)
    score = np.full((len(synthetic), 3), 0.9, np.float32) if score is None else score
    return screen(synthetic, targets, score, rules(), against or reference(), SPACE)


def test_fresh_images_that_show_their_target_are_kept_with_every_score():
    table = screened(images(40, seed=4))
    assert table["verdict"].to_list() == [KEPT] * 40
    assert table.columns == [*SCORES, "verdict"]
    assert table["screen/synthetic_similarity"].null_count() == 1  # the first has none before it
    assert table["screen/source_similarity"].null_count() == 40  # no pixel source
    scores = table.drop("screen/synthetic_similarity", "screen/source_similarity")
    assert scores.null_count().sum_horizontal().item() == 0


def test_every_planted_failure_is_rejected_for_its_reason():
    synthetic = images(7, seed=4)
    synthetic[1] = 90
    synthetic[2] = np.where(synthetic[2] > 128, 255, 0)
    synthetic[3] = real()[17][:, ::-1]
    synthetic[5] = synthetic[0]
    score = np.full((7, 3), 0.9, np.float32)
    score[4, 0] = 0.2
    verdicts = screened(synthetic, score=score)["verdict"].to_list()
    assert verdicts == [KEPT, BLANK, SATURATED, COPY, UNRECOGNIZED, REPEATED, KEPT]


def test_an_image_may_repeat_one_that_was_rejected():
    synthetic = images(2, seed=4)
    synthetic[1] = synthetic[0]
    score = np.array([[0.1, 0.1, 0.1], [0.9, 0.1, 0.1]], np.float32)
    assert screened(synthetic, score=score)["verdict"].to_list() == [UNRECOGNIZED, KEPT]


def test_a_copy_is_found_even_where_real_patients_share_images():
    store = real()
    store[100:200] = store[0]
    table = screened(np.stack([store[0], images(1, seed=4)[0]]), against=measure(store, np.arange(300), patients()))
    assert table["verdict"].to_list() == [COPY, KEPT]


def test_images_of_one_patient_do_not_loosen_what_a_copy_is():
    store = real()
    store[1::2] = store[::2]  # two takes of every patient that are all but the same
    assert measure(store, np.arange(300), patients()).similarity < 0.95


def test_a_dataset_of_one_patient_has_a_limit_all_the_same():
    assert measure(real(10), np.arange(10), ["p"] * 10).similarity == 0.999


def test_real_images_of_other_patients_are_rarely_taken_for_copies_or_failures():
    """The same images that limits come from: about 1 in 1,000 may lie beyond each of them."""
    store = images(1500, seed=5)
    against = measure(store[:1000], np.arange(1000), [str(row) for row in range(1000)])
    table = screen(store[1000:], ["Mass"] * 500, np.full((500, 3), 0.9, np.float32), rules(), against, SPACE)
    assert (table["verdict"] != KEPT).sum() <= 5


def test_contrast_and_extremes_are_those_of_each_image():
    synthetic = np.zeros((2, 10, 10), np.uint8)
    synthetic[0, :5] = 255
    synthetic[1] = 7
    contrast, extremes = appearance(synthetic)
    assert contrast.tolist() == [127.5, 0]
    assert extremes.tolist() == [1, 0]
    assert appearance(synthetic, np.array([1]))[0].tolist() == [0]


def test_the_score_of_normal_is_what_no_other_finding_takes_away():
    score = np.array([[0.2, 0.7, 0.9], [0.1, 0.05, 0.0]], np.float32)
    np.testing.assert_allclose(target_score(score, "Mass", SPACE), [0.2, 0.1])
    np.testing.assert_allclose(target_score(score, "Normal", SPACE), [0.3, 0.9], atol=1e-6)


def test_the_threshold_of_a_poor_classifier_is_what_three_of_four_real_positives_reach():
    score = np.tile(np.linspace(0, 1, 101)[:, None], 3)
    truth = np.full((101, 3), np.nan)
    truth[:, 0] = 0
    truth[50:101:10, 0] = 1  # F1 is best where a fifth of what is called present is
    truth[93:, 0] = 1
    rule = label_rules(["Mass"], score, truth, SPACE)["Mass"]
    having = score[truth[:, 0] == 1, 0]
    assert rule.threshold == np.quantile(having, 0.25)
    assert "25 % quantile" in rule.rule
    assert (having >= rule.threshold).mean() >= 0.75
    assert (rule.positives, rule.others) == (len(having), 101 - len(having))
    assert rule.others_pass == (score[truth[:, 0] == 0, 0] >= rule.threshold).mean()


def test_the_threshold_of_a_good_classifier_is_what_it_calls_present():
    score = np.tile(np.r_[np.linspace(0, 0.1, 90), np.linspace(0.99, 1, 10)][:, None], 3)
    truth = np.zeros((100, 3))
    truth[90:, 0] = 1
    rule = label_rules(["Mass"], score, truth, SPACE)["Mass"]
    assert rule.threshold == pytest.approx((0.1 + 0.99) / 2)
    assert "best F1" in rule.rule
    assert rule.others_pass == 0


def test_the_weights_of_val_count_in_what_is_called_present():
    score = np.tile(np.r_[np.full(50, 0.1), 0.4, np.linspace(0.3, 1, 8)][:, None], 3)
    truth = np.zeros((59, 3))
    truth[51:, 0] = 1
    rare, heavy = np.ones(59), np.ones(59)
    rare[50], heavy[50] = 0.01, 100.0  # an image without the finding that scores 0.4
    thresholds = [label_rules(["Mass"], score, truth, SPACE, weight)["Mass"].threshold for weight in (rare, heavy)]
    assert thresholds[0] < 0.4 < thresholds[1]


def test_with_few_positives_the_threshold_is_what_one_in_twenty_negatives_reach():
    score = np.tile(np.linspace(0, 1, 200)[:, None], 3)
    truth = np.zeros((200, 3))
    truth[:4, 1] = 1
    rule = label_rules(["Hernia"], score, truth, SPACE)["Hernia"]
    assert rule.others_pass == pytest.approx(0.05, abs=0.006)
    assert "without it, as only 4 have it" in rule.rule


def test_a_target_that_val_says_nothing_about_is_not_checked_and_passes():
    score, truth = np.zeros((3, 3), np.float32), np.full((3, 3), np.nan, np.float32)
    rule = label_rules(["Mass"], score, truth, SPACE)["Mass"]
    assert rule.threshold is None
    assert "not checked" in rule.rule
    table = screen(images(1), ["Mass"], np.zeros((1, 3), np.float32), {"Mass": rule}, reference(), SPACE)
    assert table["verdict"].to_list() == [KEPT]


def test_without_screening_everything_is_kept_and_nothing_scored():
    table = unscreened(3).table
    assert table["verdict"].to_list() == [KEPT] * 3
    assert table.schema == screened(images(3, seed=4)).schema
    assert all(table[name].null_count() == 3 for name in SCORES)
