"""Whole patients are sampled, and as many images as requested."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.audit.clusters import images_of
from trcgl.audit.patients import PatientImages, Sides, check_separation
from trcgl.core.errors import DataError

COUNTS = st.lists(st.integers(1, 6), min_size=2, max_size=12)


def patients_of(counts):
    return PatientImages.of(*images_of(np.array(counts)))


@given(counts=COUNTS, share=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_sample_has_exactly_so_many_images_and_shares_no_patient_with_the_rest(counts, share, seed):
    everyone = patients_of(counts)
    images = round(share * sum(counts))
    chosen, rest = everyone.sample(images, np.random.default_rng(seed))
    assert len(chosen.features) == images
    assert not set(chosen.names) & set(rest.names)
    assert set(chosen.names) | set(rest.names) == set(everyone.names)
    whole = [sum(chosen.owner == one) == counts[int(name[1:])] for one, name in enumerate(chosen.names)]
    assert sum(whole) >= len(whole) - 1


@given(counts=COUNTS, share=st.floats(0, 1), seed=st.integers(0, 99))
def test_chosen_patients_have_no_more_images_than_asked_and_no_other_one_would_fit(counts, share, seed):
    images = round(share * sum(counts))
    chosen = patients_of(counts).choose(images, np.random.default_rng(seed))
    names = patients_of(counts).names
    taken = [counts[int(names[patient][1:])] for patient in chosen]
    others = [counts[int(name[1:])] for patient, name in enumerate(names) if patient not in chosen]
    assert sum(taken) <= images
    assert all(sum(taken) + count > images for count in others)


def test_features_stay_with_their_patient():
    features, names = images_of(np.array([3, 1, 2]))
    one, other = (PatientImages.of(features[rows], np.array(names)[rows]) for rows in (slice(4), slice(4, 6)))
    for images in (one.together(other), one.together(other).sample(5, np.random.default_rng(0))[0]):
        for row, owner in zip(images.features, images.owner, strict=True):
            assert names[int((features == row).all(1).argmax())] == images.names[owner]


def test_only_a_larger_set_is_sampled():
    everyone, rng = patients_of([2, 2, 2]), np.random.default_rng(0)
    assert everyone.at_most(6, rng) is everyone
    assert len(everyone.at_most(4, rng).features) == 4


def test_a_shared_patient_is_refused_without_a_name():
    with pytest.raises(DataError, match="2 held-out patients") as error:
        check_separation(Sides(patients_of([5, 5]), patients_of([1, 2, 3]), patients_of([0])))
    assert "p0" not in str(error.value)
