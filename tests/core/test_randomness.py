"""Random numbers depend on their purpose, never on earlier random numbers."""

from hypothesis import given
from hypothesis import strategies as st

from trcgl.core.randomness import derive_seed, generator


def test_the_same_purpose_repeats_and_another_differs():
    assert generator(0, "augment", 5).random() == generator(0, "augment", 5).random()
    assert generator(0, "augment", 5).random() != generator(0, "augment", 6).random()


@given(st.integers(), st.lists(st.one_of(st.integers(), st.text(max_size=5)), max_size=3))
def test_every_seed_fits_a_signed_64_bit_integer(seed, purpose):
    assert 0 <= derive_seed(seed, *purpose) < 2**63


def test_parts_of_a_purpose_do_not_run_together():
    assert derive_seed(0, "1", "23") != derive_seed(0, "12", "3")
