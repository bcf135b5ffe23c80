import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.official_code import official
from trcgl.core.errors import RecipeError
from trcgl.core.recipe import TrainRecipe
from trcgl.training.sampling import epoch_rows, repeat_factors, row_sampler

OFFICIAL = official("class_aware")
LABELS = np.full((1000, 3), 0, np.float32)
LABELS[:500, 0] = 1
LABELS[:10, 1] = 1
LABELS[500:, 2] = np.nan


def epoch(name, number=0, seed=0, labels=LABELS, **settings):
    return row_sampler(TrainRecipe(row_sampling=name, **settings), labels, seed)(number)


@pytest.mark.parametrize("name", ["natural", "class_aware", "class_balanced", "repeat_factor"])
@given(seed=st.integers(0, 2**31), number=st.integers(0, 1000), rows=st.integers(1, 50))
@settings(max_examples=25)
def test_an_epoch_is_a_function_of_seed_and_number_and_has_as_many_rows_as_there_are(name, seed, number, rows):
    labels = np.ones((rows, 2), np.float32)
    shown = epoch(name, number, seed, labels)
    assert len(shown) == rows and shown.min() >= 0 and shown.max() < rows
    assert np.array_equal(shown, epoch(name, number, seed, labels))


@pytest.mark.parametrize("name", ["natural", "class_aware", "class_balanced", "repeat_factor"])
def test_two_epochs_differ(name):
    assert not np.array_equal(epoch(name, 0), epoch(name, 1))


def test_natural_shows_every_row_once():
    assert sorted(epoch("natural")) == list(range(1000))


@pytest.mark.parametrize("sampling", ["class_aware", "class_balanced"])
def test_the_last_epochs_have_a_sampling_of_their_own_where_they_retrain(sampling):
    for number in range(5):
        shown = epoch("natural", number, epochs=5, retrain_epochs=2, retrain_sampling=sampling)
        assert np.array_equal(shown, epoch("natural" if number < 3 else sampling, number))


@pytest.mark.parametrize("case", OFFICIAL["showings"], ids=lambda case: f"{case['rows']} rows")
def test_class_aware_shows_rows_as_often_as_the_sampler_of_crt(case):
    sizes = OFFICIAL["class_sizes"]
    labels = np.repeat(np.eye(len(sizes), dtype=np.float32), sizes, axis=0)  # 20 rows of one class each
    rows = np.concatenate([epoch("class_aware", number, labels=labels) for number in range(5)])[: case["rows"]]
    showings = np.split(np.bincount(rows, minlength=len(labels)), np.cumsum(sizes)[:-1])
    assert [sorted(of_class) for of_class in showings] == case["of_each_row"]


@given(seed=st.integers(0, 2**31), epochs=st.integers(1, 6), rows=st.integers(1, 40), findings=st.integers(1, 5))
@settings(max_examples=50)
def test_class_aware_showings_differ_by_at_most_one_over_any_number_of_epochs(seed, epochs, rows, findings):
    owner = np.random.default_rng(seed).integers(findings, size=rows)
    labels = np.eye(findings, dtype=np.float32)[owner]
    shown = np.concatenate([epoch("class_aware", number, seed, labels) for number in range(epochs)])
    counts = np.bincount(shown, minlength=rows)
    of_findings = [counts[owner == finding] for finding in np.unique(owner)]
    assert all(np.ptp(of_finding) <= 1 for of_finding in of_findings)
    assert np.ptp([of_finding.sum() for of_finding in of_findings]) <= 1


def test_class_balanced_shows_every_finding_with_positives_equally_often():
    shown = np.concatenate([epoch("class_balanced", number) for number in range(20)])
    # Rows 0 to 9 are sampled for the rare finding (half of all samples) and, 10 of 500, for the common one.
    assert np.mean(shown < 10) == pytest.approx(0.5 + 0.5 * 10 / 500, abs=0.02)
    assert shown.max() < 500


@pytest.mark.parametrize("name", ["class_balanced", "class_aware"])
def test_class_balance_without_a_positive_is_refused(name):
    with pytest.raises(RecipeError, match=f"row_sampling {name}: no training row"):
        epoch(name, labels=np.zeros((4, 2), np.float32))


def test_repeat_factors_equal_the_formula_of_the_paper():
    factors = repeat_factors(LABELS, 0.04, 10.0)
    assert factors[0] == pytest.approx(np.sqrt(0.04 / 0.01))  # the rarest of its two findings decides
    assert (factors[10:] == 1).all()  # a finding above the threshold, none, and unknown ones
    assert repeat_factors(LABELS, 4.0, 3.0).max() == 3


def test_repeat_factor_shows_rare_rows_as_often_as_the_formula_says():
    shown = np.concatenate([epoch("repeat_factor", number, repeat_threshold=0.0225) for number in range(200)])
    # Each of the 10 rare rows is repeated 1.5 times on average, and 1,005 rows are cut to 1,000.
    assert np.mean(shown < 10) * 1000 == pytest.approx(10 * 1.5 * 1000 / 1005, rel=0.05)


def test_a_finding_can_be_rare_among_the_labels():
    # 500 and 10 positives, and the third finding without any counts as one: 500, 10 and 1 of 511 labels
    factors = repeat_factors(LABELS, 0.04, 10.0, "labels")
    assert factors[0] == pytest.approx(np.sqrt(0.04 / (10 / 511)))
    assert (factors[10:] == 1).all()


def test_a_whole_epoch_shows_every_row_with_its_repeats_in_succession():
    settings = {"repeat_threshold": 0.0625, "repeat_epoch": "whole"}  # sqrt(6.25) = 2.5 is rounded to 2
    shown = epoch("repeat_factor", **settings)
    assert np.bincount(shown).tolist() == [2] * 10 + [1] * 990
    assert np.count_nonzero(np.diff(shown)) == 999
    assert not np.array_equal(shown, epoch("repeat_factor", 1, **settings))


@pytest.mark.parametrize(("batch_size", "rows"), [(100, 1000), (101, 1010), (2000, 1010)])
def test_a_whole_epoch_has_no_incomplete_last_batch_unless_it_is_the_only_one(batch_size, rows):
    settings = {"row_sampling": "repeat_factor", "repeat_threshold": 0.0625, "batch_size": batch_size}
    assert epoch_rows(TrainRecipe(**settings, repeat_epoch="whole"), LABELS) == rows
    assert epoch_rows(TrainRecipe(**settings), LABELS) == 1000
