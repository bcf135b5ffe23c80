"""A generator that samples in milliseconds and a screening classifier, both with random weights."""

import polars as pl
import torch

from tests.dataset.small_dataset import SIDE, SPACE, small_recipe
from trcgl.core import storage
from trcgl.core.generator_recipe import ContextRecipe, GeneratorRecipe, TextRecipe, UNetRecipe
from trcgl.generate import folder as generators
from trcgl.generate import pipeline
from trcgl.model.folder import save_model
from trcgl.model.label_graph import adjacency
from trcgl.model.trcgl_net import TrcglNet


def small_generator(space=SPACE, image_size=SIDE, tokens=24, placement="output", views=False):
    """A generator for the findings and the size of the small dataset, and its recipe."""
    recipe = GeneratorRecipe(
        name="small",
        image_size=image_size,
        views=views,
        unet=UNetRecipe(widths=(32, 32), layers=1, attention_from=1),
        text=TextRecipe(width=32, layers=1, heads=2, tokens=tokens),
        context=ContextRecipe(placement=placement, shared=1, per_finding=1),
    )
    generator = pipeline.build(recipe, space)
    for part in (generator.text_encoder, generator.vae, generator.unet, generator.context):
        part.eval().requires_grad_(False)
    generator.vae.register_to_config(scaling_factor=2.0)  # so that few pixels are black or white
    return generator, recipe


def write_generator(folder, dataset, *, space=SPACE, patients=None, **sizes):
    """Write the folder of a generator of the dataset, of its train patients unless `patients` are given; return it."""
    generator, recipe = small_generator(space, **sizes)
    generators.save(
        generator,
        folder,
        recipe,
        training_patient_digest=storage.digest(patients or train_patients(dataset)),
        license="Trained from scratch.",
    )
    return folder


def write_screener(folder, dataset, *, space=SPACE, fit="letterbox", patients=None, **about):
    """Write a finished run of an untrained classifier on the dataset; return its folder."""
    torch.manual_seed(0)
    recipe, graph = small_recipe(), adjacency(torch.eye(len(space.findings)), 0.02)
    save_model(
        folder / "model",
        TrcglNet(recipe.model, len(space.findings), graph, load_weights=False).eval(),
        recipe=recipe,
        space=space,
        preprocessing={"image_size": SIDE, "fit": fit},
        adjacency=graph,
        training_patient_digest=storage.digest(patients or train_patients(dataset)),
        license="none",
    )
    info = {"dataset": str(dataset), "dataset_digest": storage.sha256_file(dataset / "dataset.json"), "finished": "now"}
    storage.write_json(folder / "run.json", info | about)
    return folder


def train_patients(dataset):
    manifest = pl.read_parquet(dataset / "manifest.parquet")
    return manifest.filter(pl.col("split") == "train")["patient_id"].unique().to_list()
