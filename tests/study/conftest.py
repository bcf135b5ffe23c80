"""Fixtures that several tests of studies use: a dataset of bars, and a recipe of one short epoch."""

import dataclasses

import pytest

from tests.dataset.small_dataset import small_recipe, write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "small")


@pytest.fixture(scope="module")
def recipe():
    base = small_recipe(epochs=1, ema=0.0)
    return dataclasses.replace(base, evaluate=dataclasses.replace(base.evaluate, replicates=120))
