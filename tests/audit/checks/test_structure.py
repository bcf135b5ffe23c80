"""Structure checks: they hold on findings as the program renders them and not on speckle in their place."""

import functools

import numpy as np
import pytest

from benchmarks.structure_checks import fakes
from trcgl.audit.checks.structure import STRUCTURES, Condition, structure_checks
from trcgl.core.errors import DataError
from trcgl.dataset.sources.padchest_findings import SPACE
from trcgl.phantom.render import PhantomSpec, render

IMAGES = range(3)


def spec(image, *findings, size=64):
    return PhantomSpec(seed=5, patient=image, image=image, findings=findings, age=60.0, sex="FM"[image % 2], size=size)


@functools.cache
def examples(finding):
    return [fakes(spec(image, finding), finding) for image in IMAGES]


def holds(images, finding):
    return structure_checks(np.stack(images), finding).holds


def test_there_is_a_check_for_every_finding_of_the_tail():
    assert set(STRUCTURES) == set(SPACE.in_group("tail"))


@pytest.mark.parametrize("finding", STRUCTURES)
def test_a_check_holds_on_most_phantoms_with_the_finding(finding):
    assert holds([example.true for example in examples(finding)], finding).sum() >= len(IMAGES) - 1


@pytest.mark.parametrize("finding", STRUCTURES)
def test_a_check_fails_on_most_phantoms_without_the_finding_and_says_why(finding):
    result = structure_checks(
        np.stack([render(spec(image, "cardiomegaly", "Nodule")).pixels for image in IMAGES]), finding
    )
    assert result.holds.sum() <= 1
    assert [reason is None for reason in result.why] == result.holds.tolist()


@pytest.mark.parametrize("finding", [name for name in STRUCTURES if name != "hyperinflated lung"])
def test_a_check_fails_on_most_speckle_in_the_place_of_the_finding(finding):
    assert holds([example.speckle for example in examples(finding)], finding).sum() <= 1


@pytest.mark.parametrize("finding", ["azygos lobe", "Pneumothorax", "Hydropneumothorax"])
def test_a_blurred_line_is_no_line(finding):
    assert not holds([examples(finding)[0].blurred], finding).any()


def test_a_pneumothorax_with_a_level_is_not_taken_for_one_without_a_line():
    result = structure_checks(examples("Pneumothorax")[0].true[None], "Hydropneumothorax")
    assert not result.holds[0]


def test_the_verdict_on_an_image_does_not_depend_on_the_others():
    images = np.stack([example.true for example in examples("azygos lobe")[:2]])
    together = structure_checks(images, "azygos lobe").measured["line"]
    assert together.tolist() == [structure_checks(image[None], "azygos lobe").measured["line"][0] for image in images]


def test_the_measured_numbers_are_those_of_the_conditions():
    result = structure_checks(examples("pneumoperitoneo")[0].true[None], "pneumoperitoneo")
    assert set(result.measured) == {"line", "dark", "uneven", "wobble"}
    assert all(np.isfinite(values).all() for values in result.measured.values())


def test_an_empty_image_has_no_structure_and_is_no_error():
    blank = np.stack([np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8)])
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64), np.uint8)
    for finding in set(STRUCTURES) - {"hyperinflated lung"}:
        assert not structure_checks(np.concatenate([blank, noise]), finding).holds.any()


def test_a_number_that_is_not_defined_meets_no_condition():
    assert not Condition("line", "no line", least=0.1).met({"line": float("nan")})


def test_a_finding_without_a_check_and_an_image_too_small_are_errors():
    with pytest.raises(DataError, match="no structure check for 'Hernia'"):
        structure_checks(np.zeros((1, 64, 64), np.uint8), "Hernia")
    with pytest.raises(DataError, match="32 px are too small"):
        structure_checks(np.zeros((1, 32, 32), np.uint8), "azygos lobe")
