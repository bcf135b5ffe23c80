"""Planted copies are found and flag a set; images of other patients do neither."""

import dataclasses
import json

import numpy as np
import pytest

from tests.audit.planting import KINDS, deal, phantoms, radiographs
from trcgl.audit.checks.memorization import (
    LEAST,
    LEVEL,
    Nearness,
    closeness,
    limit_of_copies,
    listed,
    memorization,
)
from trcgl.audit.registration import best_matches
from trcgl.core.errors import DataError


def audit(images, patients, synthetic, train, held_out, **more):
    return memorization(
        synthetic,
        images[train],
        images[held_out],
        train_patients=patients[train].tolist(),
        held_out_patients=patients[held_out].tolist(),
        **more,
    )


@pytest.fixture(scope="module")
def pool():
    images, patients = phantoms(300, 64)
    train, held_out, rest = deal(patients, (0.38, 0.32, 0.3), np.random.default_rng(0))
    return images, patients, train, held_out, rest[:80]


@pytest.fixture(scope="module")
def planted(pool):
    """Ten of eighty synthetic images are copies, two of each kind."""
    images, patients, train, held_out, rest = pool
    rng = np.random.default_rng(1)
    originals = rng.choice(len(train), 10, replace=False)
    synthetic = images[rest].copy()
    for row, original in enumerate(originals):
        synthetic[5 * row] = list(KINDS.values())[row % 5](images[train][original], rng)
    sources = [f"source {row % 30}" for row in range(len(synthetic))]
    return audit(images, patients, synthetic, train, held_out, source_patients=sources, seed=4), originals


def test_planted_copies_flag_the_set_and_are_listed_by_row(planted):
    result, originals = planted
    assert result.flagged and result.p < LEVEL
    rows = {copy.synthetic: copy for copy in result.copies}
    assert [row for row in rows if row % 5 == 0 and row < 50] == list(range(0, 50, 5))
    assert len(rows) <= 11
    assert [rows[5 * row].train for row in range(10)] == originals.tolist()
    assert min(copy.similarity for copy in result.copies) > result.limit


def test_what_was_done_to_a_copy_is_said(planted):
    result, _ = planted
    change = {copy.synthetic: copy.change for copy in result.copies}
    assert change[0] == change[25] == "unchanged"
    assert change[5] == change[30] == "mirrored"
    assert "cropped by" in change[10] and "mirrored" not in change[10]
    assert "brighter" in change[15] or "darker" in change[15]
    assert change[20].startswith("mirrored, cropped by") and ("brighter" in change[20] or "darker" in change[20])


def test_the_nearest_pairs_are_shown_the_nearest_first(planted):
    result, _ = planted
    similarity = [pair.similarity for pair in result.pairs]
    assert len(result.pairs) == 20 and similarity == sorted(similarity, reverse=True)
    assert {copy.synthetic for copy in result.copies} <= {pair.synthetic for pair in result.pairs}


def test_counts_stand_beside_the_answer_and_are_plain_json(planted, pool):
    result, _ = planted
    _, patients, train, _, _ = pool
    assert result.n["synthetic"] == {"images": 80, "patients": 30}
    assert result.n["train"] == {"images": len(train), "patients": len(set(patients[train]))}
    assert result.n["compared"]["patients"] == result.n["held_out"]["patients"] < result.n["train"]["patients"]
    asked = result.n["asked"]
    assert asked == {"held_out": result.n["held_out"]["patients"], "train": result.n["train"]["patients"]}
    for bins in (result.closer, result.much_closer):
        assert sum(bins.synthetic) == 80
        assert sum(bins.held_out) == asked["held_out"] and sum(bins.train) == asked["train"]
    assert result.much_closer.synthetic[0] >= 10 and result.much_closer.shares["held_out"] <= 0.01
    stored = json.loads(json.dumps(dataclasses.asdict(result), allow_nan=False))
    assert stored["much_closer"]["shares"]["synthetic"] == result.much_closer.synthetic[0] / 80
    assert stored["copies"][0].keys() == {"synthetic", "train", "similarity", "change"}


def test_images_of_other_patients_are_neither_flagged_nor_listed(pool):
    images, patients, train, held_out, rest = pool
    result = audit(images, patients, images[rest[:50]], train[:80], held_out[:70])
    assert result.flagged is False and result.p > LEVEL
    assert len(result.copies) <= 1 and len(result.pairs) == 20
    assert 0 < result.detectable <= 0.2


def test_the_same_seed_gives_the_same_answer(pool):
    images, patients, train, held_out, rest = pool
    small = train[:30], held_out[:30]
    one, other = (audit(images, patients, images[rest[:20]], *small, seed=2) for _ in range(2))
    assert one == other


def test_real_images_are_not_compared_with_their_own_patient(pool):
    # Every patient has two equal images: the null would call all of them copies if they were compared.
    images, _, train, held_out, rest = pool
    twice = np.concatenate([np.repeat(train[:30], 2), np.repeat(held_out[:30], 2)])
    names = np.array([f"patient {number}" for number in twice])
    result = audit(images[twice], names, images[rest[:25]], np.arange(60), np.arange(60, 120))
    assert result.held_out_copies == 0 and result.limit < 0.99
    assert result.n["asked"] == {"held_out": 30, "train": 30}


def test_too_few_patients_are_not_tested_but_the_nearest_pairs_are_shown(pool):
    images, patients, train, held_out, _ = pool
    result = audit(images, patients, images[train[:20]], train[:50], held_out[: LEAST - 5])
    assert result.flagged is None and result.p is None and "in held-out" in result.why
    assert result.limit is None and not result.copies and result.pairs[0].similarity > 0.999
    json.dumps(dataclasses.asdict(result), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_patients": ["a"] * 29}, "29 patients"),
        ({"held_out": np.zeros((0, 64, 64), np.uint8), "held_out_patients": []}, "no held-out image"),
        ({"train": np.zeros((30, 32, 32), np.uint8)}, r"\(32, 32\)"),
        ({"held_out_patients": ["t3"] * 30}, "1 patients are in train and in held-out"),
    ],
)
def test_what_does_not_fit_together_is_refused(pool, change, words):
    images = pool[0]
    given = {
        "synthetic": images[:30],
        "train": images[30:60],
        "held_out": images[60:90],
        "train_patients": [f"t{row}" for row in range(30)],
        "held_out_patients": [f"h{row}" for row in range(30)],
    } | change
    with pytest.raises(DataError, match=words):
        memorization(**given)


def nearness(rng, count, lean=0.0):
    """Similarities of images to the nearest in sets of equal size; `lean` moves them towards train."""
    one, other = np.tanh(1.1 + 0.12 * rng.gumbel(size=(2, count)))
    return Nearness(np.tanh(np.arctanh(one) + lean), other, np.tanh(np.arctanh(one) + lean), other)


def test_a_set_that_leans_to_train_as_a_whole_is_flagged_without_a_single_copy():
    rng = np.random.default_rng(0)
    near = {"synthetic": nearness(rng, 200, lean=0.08), "held_out": nearness(rng, 200), "train": nearness(rng, 200)}
    closer, _, p = closeness(near)
    assert p < LEVEL and closer.shares["synthetic"] > 0.6
    assert not listed(near["synthetic"], limit_of_copies(near["held_out"])).sum() > 1


def test_a_set_that_is_like_a_train_set_of_another_kind_is_not_flagged():
    # Synthetic and training images lean to train alike: train differs from held-out, nothing is copied.
    rng = np.random.default_rng(0)
    near = {
        "synthetic": nearness(rng, 200, lean=0.3),
        "held_out": nearness(rng, 200),
        "train": nearness(rng, 200, lean=0.3),
    }
    closer, _, p = closeness(near)
    assert closer.p < LEVEL and p > LEVEL


def test_a_patient_in_both_sets_under_two_names_hides_no_copy():
    rng = np.random.default_rng(0)
    held_out = nearness(rng, 100)
    leaked = held_out._replace(train=np.append(held_out.train[:-2], [0.9999, 0.9999]))
    assert limit_of_copies(leaked) == pytest.approx(limit_of_copies(held_out), abs=0.01)
    assert listed(leaked, limit_of_copies(leaked))[-2:].all()


def test_without_copies_one_set_in_a_hundred_is_flagged_at_most():
    rng = np.random.default_rng(0)
    p = [
        closeness({name: nearness(rng, n) for name, n in (("synthetic", 200), ("held_out", 80), ("train", 150))})[2]
        for _ in range(400)
    ]
    assert np.mean(np.array(p) < LEVEL) <= 0.015


SOURCES = ("phantoms of 64 px", "phantoms of 96 px", "radiographs of 64 px", "radiographs of 96 px")


@pytest.fixture(scope="module", params=SOURCES)
def source(request):
    what, _, size, _ = request.param.split()
    if what == "phantoms":
        return phantoms(1000, int(size))
    return radiographs(request.getfixturevalue("real_data") / "nih-mini", int(size), 1300)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_tenth_of_copies_is_flagged_and_found(source, kind):
    images, patients = source
    rng = np.random.default_rng(len(kind))
    train, held_out, rest = deal(patients, (0.45, 0.25, 0.3), rng)
    synthetic = images[rng.choice(rest, 200, replace=False)]
    rows, originals = rng.choice(200, 20, replace=False), rng.choice(len(train), 20, replace=False)
    synthetic[rows] = [KINDS[kind](images[train[original]], rng) for original in originals]
    result = audit(images, patients, synthetic, train, held_out)
    found = {(copy.synthetic, copy.train) for copy in result.copies}
    right = found & set(zip(rows.tolist(), originals.tolist(), strict=True))
    print(f"{kind}: p {result.p:.1e}, {len(right)} of 20 found, {len(found - right)} of 180 others listed")
    assert result.flagged
    assert len(right) >= 19
    assert len(found - right) <= 2


@pytest.mark.slow
def test_independent_images_are_flagged_in_at_most_a_tenth_of_repetitions(source):
    # Patients are dealt into blocks once, and blocks to train, held-out and synthetic in every repetition: the nearest
    # of a set is the nearest of its blocks.
    images, patients = source
    blocks = deal(patients, np.full(10, 0.1), np.random.default_rng(3))
    number = np.unique(patients, return_inverse=True)[1]
    similarity = np.stack([best_matches(images, images, rows, (number, number[rows])).similarity for rows in blocks], 1)
    flagged, wrong = 0, []
    for repetition in range(100):
        rng = np.random.default_rng(repetition)
        order = rng.permutation(10)
        rows = {
            "train": rng.permutation(np.concatenate([blocks[block] for block in order[:5]])),
            "held_out": rng.permutation(np.concatenate([blocks[block] for block in order[5:8]])),
            "synthetic": rng.permutation(np.concatenate([blocks[block] for block in order[8:]]))[:200],
        }
        near = {}
        for name, chosen in rows.items():
            if name != "synthetic":
                chosen = chosen[np.unique(number[chosen], return_index=True)[1]]
            parts = (order[:5], order[5:8], order[:3], order[5:8])
            near[name] = Nearness(*(similarity[chosen][:, part].max(1) for part in parts))
        flagged += closeness(near)[2] < LEVEL
        wrong.append(int(listed(near["synthetic"], limit_of_copies(near["held_out"])).sum()))
    print(
        f"{flagged} of 100 flagged; {sum(wrong)} of {100 * len(rows['synthetic'])} listed, at most {max(wrong)} at once"
    )
    assert flagged <= 10
    assert np.mean(wrong) <= 1.5


@pytest.mark.slow
def test_another_image_of_a_training_patient_is_no_copy(source):
    images, patients = source
    names, first, count = np.unique(patients, return_index=True, return_counts=True)
    several = first[count > 1][:100]
    held_out = np.flatnonzero(np.isin(patients, names[count == 1][:250]))
    train = np.setdiff1d(np.arange(len(images)), np.append(held_out, several))
    result = audit(images, patients, images[several], train, held_out)
    print(f"{len(result.copies)} of {len(several)} other images of training patients listed, p {result.p:.2f}")
    assert len(several) >= 80 and np.isin(patients[several], patients[train]).all()
    assert len(result.copies) <= 1 and not result.flagged
