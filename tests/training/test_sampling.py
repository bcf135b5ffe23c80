import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trcgl.core.errors import RecipeError
from trcgl.core.recipe import TrainRecipe
from trcgl.training.sampling import repeat_factors, row_sampler

LABELS = np.full((1000, 3), 0, np.float32)
LABELS[:500, 0] = 1
LABELS[:10, 1] = 1
LABELS[500:, 2] = np.nan


def epoch(name, number=0, seed=0, labels=LABELS, **settings):
    return row_sampler(TrainRecipe(row_sampling=name, **settings), labels, seed)(number)


@pytest.mark.parametrize("name", ["natural", "class_balanced", "repeat_factor"])
@given(seed=st.integers(0, 2**31), number=st.integers(0, 1000), rows=st.integers(1, 50))
@settings(max_examples=25)
def test_an_epoch_is_a_function_of_seed_and_number_and_has_as_many_rows_as_there_are(name, seed, number, rows):
    labels = np.ones((rows, 2), np.float32)
    shown = epoch(name, number, seed, labels)
    assert len(shown) == rows and shown.min() >= 0 and shown.max() < rows
    assert np.array_equal(shown, epoch(name, number, seed, labels))


@pytest.mark.parametrize("name", ["natural", "class_balanced", "repeat_factor"])
def test_two_epochs_differ(name):
    assert not np.array_equal(epoch(name, 0), epoch(name, 1))


def test_natural_shows_every_row_once():
    assert sorted(epoch("natural")) == list(range(1000))


def test_the_last_epochs_are_class_balanced_where_they_retrain():
    for number in range(5):
        shown = epoch("natural", number, epochs=5, retrain_epochs=2)
        assert np.array_equal(shown, epoch("natural" if number < 3 else "class_balanced", number))


def test_class_balanced_shows_every_finding_with_positives_equally_often():
    shown = np.concatenate([epoch("class_balanced", number) for number in range(20)])
    # Rows 0 to 9 are sampled for the rare finding (half of all samples) and, 10 of 500, for the common one.
    assert np.mean(shown < 10) == pytest.approx(0.5 + 0.5 * 10 / 500, abs=0.02)
    assert shown.max() < 500


def test_class_balanced_without_a_positive_is_refused():
    with pytest.raises(RecipeError, match="class_balanced"):
        epoch("class_balanced", labels=np.zeros((4, 2), np.float32))


def test_repeat_factors_equal_the_formula_of_the_paper():
    factors = repeat_factors(LABELS, 0.04, 10.0)
    assert factors[0] == pytest.approx(np.sqrt(0.04 / 0.01))  # the rarest of its two findings decides
    assert (factors[10:] == 1).all()  # a finding above the threshold, none, and unknown ones
    assert repeat_factors(LABELS, 4.0, 3.0).max() == 3


def test_repeat_factor_shows_rare_rows_as_often_as_the_formula_says():
    shown = np.concatenate([epoch("repeat_factor", number, repeat_threshold=0.0225) for number in range(200)])
    # Each of the 10 rare rows is repeated 1.5 times on average, and 1,005 rows are cut to 1,000.
    assert np.mean(shown < 10) * 1000 == pytest.approx(10 * 1.5 * 1000 / 1005, rel=0.05)
