"""Image-to-image synthesis starts from real images of other patients, records them, and screens against them."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

from tests.dataset.small_dataset import SPACE, write_dataset
from tests.generate.small_generator import small_generator, write_generator, write_screener
from trcgl.core.errors import DataError, RecipeError
from trcgl.core.storage import read_json
from trcgl.dataset.store import open_dataset
from trcgl.dataset.synthetic_rows import open_synthetic, read_provenance
from trcgl.generate import sampling_run
from trcgl.generate.pixel_sources import COLUMNS, absent_in_sources, with_pixel_sources
from trcgl.generate.plan import plan
from trcgl.generate.prompts import prompt
from trcgl.generate.screen import COPY, KEPT, Reference, measure, screen
from trcgl.generate.solver import sample
from trcgl.generate.synthesize import SynthesizeOptions, synthesize
from trcgl.model.tensors import to_unit

OPTIONS = SynthesizeOptions(each=7, steps=4, batch_size=3, devices=1, accelerator="cpu", from_real=True, strength=0.6)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Generator, dataset and screener."""
    folder = tmp_path_factory.mktemp("inputs")
    dataset = write_dataset(folder / "small", train=60)
    return write_generator(folder / "generator", dataset), dataset, write_screener(folder / "run", dataset)


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "synthetic"
    synthesize(*inputs, out, OPTIONS)
    return out


def planned(dataset, **how):
    rows = plan(dataset, ["Hernia"], each=40)
    return with_pixel_sources(rows, dataset, **how)


def of_source(rows, dataset, *columns):
    """Columns of the pixel source of every row."""
    train = dataset.split("train").select(pl.col("image_id").alias("pixel_source_image"), "patient_id", *columns)
    return rows.select("target", "pixel_source_image", label_patient="patient_id").join(
        train, on="pixel_source_image", how="left", maintain_order="left"
    )


def test_sources_are_training_images_of_other_patients_without_the_target(inputs):
    dataset = open_dataset(inputs[1])
    rows = planned(dataset)
    found = of_source(rows, dataset, *SPACE.findings)
    assert found["patient_id"].null_count() == 0
    assert found["patient_id"].to_list() == rows["pixel_source_patient"].to_list()
    assert (found["patient_id"] != found["label_patient"]).all()
    hernia = found.filter(pl.col("target") == "Hernia")
    assert (hernia["Hernia"] == 0).all()  # known to be absent where there is such an image
    assert hernia["pixel_source_image"].n_unique() > 10
    normal = found.filter(pl.col("target") == "Normal")
    assert (normal["Normal"] == 1).all()


def test_sources_with_the_target_can_be_asked_for(inputs):
    dataset = open_dataset(inputs[1])
    found = of_source(planned(dataset, wanted="with_target"), dataset, "Hernia").filter(pl.col("target") == "Hernia")
    assert (found["Hernia"] == 1).all() and (found["patient_id"] != found["label_patient"]).all()


def test_sources_depend_on_the_seed_of_the_image_alone(inputs):
    dataset = open_dataset(inputs[1])
    rows = planned(dataset)
    assert rows.equals(planned(dataset))
    some = rows.drop("pixel_source_image", "pixel_source_patient")[5:30:3]
    assert with_pixel_sources(some, dataset).equals(rows[5:30:3])


def test_the_view_of_the_label_source_is_preferred_and_an_unknown_finding_is_allowed(inputs):
    dataset = open_dataset(inputs[1])
    train = pl.col("split") == "train"
    lateral = pl.int_range(pl.len()) % 2 == 0
    manifest = dataset.manifest.with_columns(
        view=pl.when(lateral).then(pl.lit("lateral")).otherwise(pl.lit("frontal")),
        Hernia=pl.when(train & lateral & (pl.col("Hernia") == 0)).then(None).otherwise(pl.col("Hernia")).cast(pl.Int8),
    )
    changed = dataclasses.replace(dataset, manifest=manifest)
    rows = planned(changed)
    found = of_source(rows, changed, "view", "Hernia")
    view_of = dict(changed.manifest.select("image_id", "view").iter_rows())
    assert found["view"].to_list() == [view_of[image] for image in rows["source_image_id"]]
    assert (found.filter(target="Hernia")["Hernia"].fill_null(0) == 0).all()


def test_a_dataset_without_another_patient_to_start_from_is_refused(inputs):
    dataset = open_dataset(inputs[1])
    everyone = dataset.manifest.with_columns(Hernia=pl.lit(1, pl.Int8))
    with pytest.raises(DataError, match=r"no training image without Hernia of another patient.*--source-images any"):
        planned(dataclasses.replace(dataset, manifest=everyone))


def test_every_row_records_both_patients_and_the_strength(whole, inputs):
    rows, real = read_provenance(whole), open_dataset(inputs[1])
    assert rows["strength"].unique().to_list() == [0.6]
    patient_of = dict(real.split("train").select("image_id", "patient_id").iter_rows())
    assert [patient_of[image] for image in rows["pixel_source_image"]] == rows["pixel_source_patient"].to_list()
    labels = open_dataset(whole).manifest.sort("row")["patient_id"]
    assert (labels != rows["pixel_source_patient"]).all()
    assert read_json(whole / "dataset.json")["synthetic"]["options"]["strength"] == 0.6
    assert "source_similarity" in read_json(whole / "report.json")["limits"]


def test_the_first_images_of_a_larger_plan_and_of_another_batch_size_are_the_same(whole, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(sampling_run, "IMAGES_PER_PART", 4)
    synthesize(*inputs, tmp_path / "more", dataclasses.replace(OPTIONS, each=9, batch_size=8))
    first, more = ({}, {})
    for folder, images in ((whole, first), (tmp_path / "more", more)):
        images.update(zip(read_provenance(folder)["image_id"], np.load(folder / "images.npy").astype(int), strict=True))
    assert set(first) < set(more)
    assert max(np.abs(image - more[name]).max() for name, image in first.items()) <= 1


def test_an_interrupted_call_resumes_and_other_strengths_are_refused(whole, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(sampling_run, "IMAGES_PER_PART", 4)
    of, calls = sampling_run.sample, []

    def stop(*given, **how):
        calls.append(how["strength"])
        if len(calls) == 4:
            raise KeyboardInterrupt
        return of(*given, **how)

    monkeypatch.setattr(sampling_run, "sample", stop)
    with pytest.raises(KeyboardInterrupt):
        synthesize(*inputs, tmp_path / "synthetic", OPTIONS)
    with pytest.raises(RecipeError, match="strength"):
        synthesize(*inputs, tmp_path / "synthetic", dataclasses.replace(OPTIONS, strength=0.7))
    synthesize(*inputs, tmp_path / "synthetic", OPTIONS)
    images = [np.load(folder / "images.npy").astype(int) for folder in (whole, tmp_path / "synthetic")]
    assert np.abs(images[0] - images[1]).max() <= 1
    planned = [read_provenance(folder).select(*COLUMNS, "seed") for folder in (whole, tmp_path / "synthetic")]
    assert planned[0].equals(planned[1])


def test_findings_that_a_source_may_have_are_unknown_never_absent(whole, inputs):
    dataset = open_dataset(inputs[1])
    unknown = dataclasses.replace(
        dataset, manifest=dataset.manifest.with_columns(Mass=pl.lit(None, pl.Int8), Edema=pl.lit(1, pl.Int8))
    )
    rows = planned(dataset)
    absent = absent_in_sources(rows, unknown)
    assert not absent["Mass"].any() and not absent["Edema"].any()
    manifest = open_dataset(whole).manifest.join(read_provenance(whole).select("image_id", "target"), on="image_id")
    others = manifest.filter(pl.col("target") == "Hernia").select(finding for finding in SPACE.findings)
    assert not any((others[finding] == 0).any() for finding in SPACE.findings)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"strength": 0.0}, "--strength 0.0: it must be above 0 and at most 1"),
        ({"strength": 1.5}, "above 0 and at most 1"),
        ({"from_real": False}, "--strength 0.6 acts on real images. Give --from-real"),
        ({"from_real": False, "strength": None, "source_images": "any"}, "--source-images any chooses real images"),
    ],
)
def test_settings_that_contradict_are_refused(changed, message):
    with pytest.raises(RecipeError, match=message):
        dataclasses.replace(OPTIONS, **changed)


def test_a_pixel_source_outside_train_is_refused(whole, inputs):
    real = open_dataset(inputs[1])
    open_synthetic(whole, real)
    patients = set(read_provenance(whole)["pixel_source_patient"]) - set(open_dataset(whole).manifest["patient_id"])
    moved = pl.when(pl.col("patient_id") == min(patients)).then(pl.lit("val")).otherwise("split")
    leaking = dataclasses.replace(real, manifest=real.manifest.with_columns(split=moved))
    with pytest.raises(DataError, match="start from images that are not of train patients"):
        open_synthetic(whole, leaking)


@pytest.fixture(scope="module")
def small():
    generator, _ = small_generator()
    with torch.no_grad():
        condition = generator.encode([prompt(["Mass"], "Normal")] * 3)
        empty = generator.encode_empty()
    images = torch.randint(0, 256, (3, generator.image_size, generator.image_size), dtype=torch.uint8)
    return generator, condition, empty, images


@pytest.mark.parametrize("solver", ["dpm++2m", "ddim"])
def test_strength_goes_from_the_round_trip_of_the_source_to_text_to_image(small, solver):
    generator, condition, empty, images = small
    start = to_unit(images) * 2 - 1
    how = {"steps": 10, "solver": solver, "guidance": 1.0}
    from_noise = sample(generator, condition, empty, range(3), **how).astype(int)
    at = {
        strength: sample(generator, condition, empty, range(3), images=start, strength=strength, **how).astype(int)
        for strength in (0.001, 0.3, 0.7, 1.0)
    }
    away = [np.abs(at[strength] - images.numpy().astype(int)).mean() for strength in (0.001, 0.3, 0.7, 1.0)]
    assert away == sorted(away)
    assert np.abs(at[1.0] - from_noise).max() <= 1  # the last noise level has no signal
    if solver == "dpm++2m":  # ddim's last level, of ten, has noise
        assert away[0] < 6


def test_an_image_nearer_to_its_source_than_repeat_images_is_a_copy():
    random = np.random.default_rng(0)
    base = random.integers(0, 256, (60, 32, 32))
    patients = [f"patient {place // 2}" for place in range(120)]
    mixed = np.stack([(0.8 * base[place // 2] + 0.2 * random.integers(0, 256, (32, 32))) for place in range(120)])
    store = mixed.astype(np.uint8)
    reference = measure(store, np.arange(120), patients)
    assert reference.similarity < 0.5 < reference.source_similarity < 0.99
    near = (0.97 * store[:2] + 0.03 * random.integers(0, 256, (2, 32, 32))).astype(np.uint8)
    far = (0.6 * store[2:4] + 0.4 * random.integers(0, 256, (2, 32, 32))).astype(np.uint8)
    images = np.concatenate([near, far])
    score, origin = np.zeros((4, len(SPACE.findings)), np.float32), np.arange(4)
    table = screen(images, ["Mass"] * 4, score, {}, reference, SPACE, origin)
    assert table["verdict"].to_list() == [COPY, COPY, KEPT, KEPT]
    assert (table["screen/source_similarity"] > table["screen/train_similarity"]).all()
    from_noise = screen(images, ["Mass"] * 4, score, {}, reference, SPACE)
    assert from_noise["verdict"].to_list() == [COPY] * 4


def test_without_repeat_images_only_a_certain_copy_is_one():
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32)).astype(np.uint8)
    reference = measure(images, np.arange(30), [str(place) for place in range(30)])
    assert isinstance(reference, Reference) and reference.source_similarity == 0.999
