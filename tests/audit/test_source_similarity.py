"""An audit of image-to-image synthesis compares images with their pixel sources apart, beside repeat images."""

import dataclasses

import numpy as np
import pytest

from tests.audit.planting import phantoms
from tests.audit.small_audit import OPTIONS, write_small
from trcgl.audit.audit import audit
from trcgl.audit.checks.memorization import memorization
from trcgl.audit.options import AuditOptions
from trcgl.audit.registration import best_matches, pair_similarity
from trcgl.audit.source_similarity import repeat_similarity, source_similarity
from trcgl.dataset.synthetic_rows import read_provenance
from trcgl.generate.synthesize import synthesize


@pytest.fixture(scope="module")
def radiographs():
    return phantoms(80, 64)


def test_pairs_have_the_similarity_of_the_best_match_among_one(radiographs):
    images, _ = radiographs
    pairs = pair_similarity(images[:4], images[4:8])
    alone = [best_matches(images[row : row + 1], images[4 + row : 5 + row]).similarity[0] for row in range(4)]
    assert pairs == pytest.approx(alone, abs=1e-5)
    assert pair_similarity(images[:2], images[:2]) == pytest.approx([1, 1], abs=1e-4)


def test_repeats_are_other_images_of_the_same_patient():
    random = np.random.default_rng(0)
    base = random.integers(0, 256, (30, 48, 48))
    store = np.repeat(base, 2, 0).astype(np.uint8)
    patients = [str(place // 2) for place in range(60)]
    assert repeat_similarity(store, np.arange(60), patients, 0) == pytest.approx(np.ones(30), abs=1e-3)
    assert len(repeat_similarity(store, np.arange(0, 60, 2), patients[::2], 0)) == 0


def test_copies_of_the_pixel_source_are_listed_and_flagged(radiographs):
    images, _ = radiographs
    random = np.random.default_rng(1)
    repeats = random.uniform(0.3, 0.8, 100)
    changed = np.clip(images[:40] + random.normal(0, 60, (40, 64, 64)), 0, 255).astype(np.uint8)
    quiet = source_similarity(changed, images[:40], repeats)
    assert not quiet.flagged and not quiet.copies
    changed[::4] = images[:40:4]
    found = source_similarity(changed, images[:40], repeats)
    assert found.copies == tuple(range(0, 40, 4)) and found.flagged and found.p < 0.01
    assert found.largest == pytest.approx(1, abs=1e-3) and found.repeat_median == pytest.approx(np.median(repeats))
    assert source_similarity(changed, images[:40], repeats[:5]).flagged is None


def test_the_patient_of_the_pixel_source_is_left_out_of_the_search_for_memorized_copies(radiographs):
    images, patients = radiographs
    train, held_out = np.arange(40), np.arange(40, 80)
    keep = ~np.isin(patients[held_out], patients[train])
    about = {
        "train_patients": patients[train].tolist(),
        "held_out_patients": patients[held_out][keep].tolist(),
    }
    synthetic = images[:25].copy()  # each is its own pixel source
    sets = (synthetic, images[train], images[held_out][keep])
    searched = memorization(*sets, **about)
    apart = memorization(*sets, **about, pixel_patients=patients[:25].tolist())
    assert len(searched.copies) == 25 and max(pair.similarity for pair in apart.pairs) < 0.99
    assert all(patients[pair.train] != patients[pair.synthetic] for pair in apart.pairs)


def test_an_audit_starts_its_counterparts_from_the_same_images(tmp_path):
    small = write_small(tmp_path)
    out = tmp_path / "from-real"
    changed = dataclasses.replace(OPTIONS, from_real=True, strength=0.2)
    synthesize(small.generator, small.dataset, small.screener, out, changed)
    assert read_provenance(out)["strength"].unique().to_list() == [0.2]
    options = AuditOptions(
        each=8, sweep_each=0, handwritten_each=0, features=("thumbnail",), batch_size=16, held_out="test"
    )
    result = audit(out, small.dataset, small.auditor, options=options)
    source = result["findings"]["Hernia"]["memorization"]["source"]
    assert source["median"] > 0.2 and source["repeats"] > 0
    assert result["sampling"]["strength"] == 0.2
    page = (out / "audit" / "audit.html").read_text()
    assert "noised to strength 0.2" in page and "their pixel source (synthetic images)" in page
