"""An audit begins only where generator, auditor and dataset belong together, and says what it could not check."""

import json
import shutil

import pytest

from tests.audit.small_audit import write_classifier, write_small
from tests.dataset.small_dataset import write_dataset
from tests.generate.small_generator import write_generator
from trcgl.audit.inputs import open_inputs
from trcgl.core.errors import DataError
from trcgl.core.storage import read_json, sha256_file, write_json
from trcgl.dataset.store import open_dataset


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("made"))


@pytest.fixture
def small(made, tmp_path):
    """A copy that a test may spoil."""
    folder = tmp_path / "copy"
    shutil.copytree(made.dataset.parent, folder)
    return type(made)(*(folder / path.name for path in made))


def opened(small, generator=None):
    return open_inputs(small.synthetic, small.dataset, small.auditor, generator)


def change(path, **fields):
    write_json(path, {**read_json(path), **fields})


def test_classifiers_of_two_halves_share_no_patient(made):
    inputs = opened(made)
    assert "second half" in inputs.separation[0]
    assert "they share no patient" in inputs.separation[1]
    assert inputs.unchecked == []
    assert inputs.provenance["image_id"].to_list() == inputs.synthetic.manifest.sort("row")["image_id"].to_list()


@pytest.mark.parametrize("which", ["first", "none"])
def test_an_auditor_that_shares_patients_with_the_screener_is_refused(small, which):
    shutil.rmtree(small.auditor)
    write_classifier(small.auditor, small.dataset, which)
    with pytest.raises(DataError, match=r"which screened .* --train.half first"):
        opened(small)


def test_where_the_screener_is_gone_it_is_said(small):
    shutil.rmtree(small.screener)
    inputs = opened(small)
    assert "could not be checked" in inputs.unchecked[0]


def test_where_another_screener_lies_in_its_place_it_is_said(small):
    info = small.screener / "model" / "model.json"
    shutil.rmtree(small.screener)
    write_classifier(small.screener, small.dataset, "none")
    weights = small.screener / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    change(info, weights_sha256=sha256_file(weights))
    assert "could not be checked" in opened(small).unchecked[0]


def test_an_auditor_on_another_dataset_needs_no_halves(small, tmp_path):
    other = write_dataset(tmp_path / "copy" / "other", train=60, seed=5)
    shutil.rmtree(small.auditor)
    write_classifier(small.auditor, other, "none")
    inputs = opened(small)
    assert "another dataset, small-5; none of its patients" in inputs.separation[0]
    assert inputs.unchecked == []


def test_an_auditor_on_another_dataset_with_the_same_patients_is_refused(small, tmp_path):
    other = write_dataset(tmp_path / "copy" / "other", train=62, val=62, test=62, seed=0)
    shutil.rmtree(small.auditor)
    write_classifier(small.auditor, other, "none")
    with pytest.raises(DataError, match="were used in training or selection"):
        opened(small)


def test_where_the_dataset_of_the_auditor_is_gone_it_is_said(small, tmp_path):
    other = write_dataset(tmp_path / "copy" / "other", train=60, seed=5)
    shutil.rmtree(small.auditor)
    write_classifier(small.auditor, other, "none")
    shutil.rmtree(other)
    assert "could not be checked" in opened(small).unchecked[0]


def test_another_archive_is_told_apart_by_images_alone_and_it_is_said(small, tmp_path):
    other = write_dataset(tmp_path / "copy" / "other", train=60, seed=5)
    change(other / "dataset.json", source="nih")
    shutil.rmtree(small.auditor)
    write_classifier(small.auditor, other, "none")
    inputs = opened(small)
    assert "the same person may be in both" in inputs.unchecked[0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda small: change(small.auditor / "run.json", synthetic={"folder": "x"}), "trained with synthetic images"),
        (
            lambda small: change(small.auditor / "model" / "model.json", thresholds=None),
            "trcgl evaluate .* --split val",
        ),
        (
            lambda small: change(small.auditor / "model" / "model.json", training_patient_digest="0"),
            "held-out patients",
        ),
        (lambda small: (small.dataset / "x").touch() or shutil.rmtree(small.generator), "Name it: --generator"),
        (lambda small: unfinish(small.auditor / "run.json"), "is not finished"),
    ],
)
def test_what_does_not_belong_is_refused_with_what_to_do(small, spoil, message):
    spoil(small)
    with pytest.raises(DataError, match=message):
        opened(small)


def unfinish(path):
    info = read_json(path)
    del info["finished"]
    path.write_text(json.dumps(info))


def test_the_real_dataset_is_no_synthetic_folder(small):
    with pytest.raises(DataError, match="holds no synthetic images"):
        open_inputs(small.dataset, small.dataset, small.auditor, None)


def test_another_generator_is_refused(small, tmp_path):
    other = write_generator(tmp_path / "another", small.dataset, tokens=32)
    with pytest.raises(DataError, match="was generated by another generator"):
        opened(small, other)
    assert opened(small, small.generator).generator.info["digest"]
    assert open_dataset(small.synthetic).info["synthetic"]["generator_folder"] == "../generator"
