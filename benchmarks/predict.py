"""Scoring many files with `trcgl predict`, against a plain loop: PIL, torchvision transforms, one by one.

    python benchmarks/predict.py [--root ../shared/data/nih-fullres] [--files 1000]

Both score the same files, repeated to `--files`, with the same untrained TRCGL-Net over ConvNeXtV2-Atto at 224 px,
which `predict` has as a model folder and as an exported one. The wall time of the whole is taken, the start of the
decoding processes included; the plain loop has torch's own threads on all cores, as everybody's has. The claim is about
several cores: it needs at least two that are free. Exits with 1 unless `predict` of the exported folder has at least
twice the images per second, and the same scores.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image
from torchvision import transforms

from trcgl.core.recipe import ModelRecipe, Recipe
from trcgl.dataset.labels import LabelSpace
from trcgl.export.export import export
from trcgl.model.folder import LoadedModel, load_model, save_model
from trcgl.model.trcgl_net import TrcglNet
from trcgl.predict.options import PredictOptions
from trcgl.predict.predict import predict_to

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
ROOT = Path(os.environ.get("TRCGL_REAL_DATA", BESIDE)) / "nih-fullres"
SIZE, FINDINGS = 224, 14
CLAIM = 2.0


def write_model(folder: Path) -> Path:
    """An untrained model: its scores mean nothing and take as long as any."""
    space = LabelSpace("benchmark", tuple(f"Finding {number}" for number in range(FINDINGS)), {}, "name")
    recipe = Recipe(name="benchmark", model=ModelRecipe(backbone="convnextv2_atto", image_size=SIZE))
    graph = torch.eye(FINDINGS)
    network = TrcglNet(recipe.model, FINDINGS, graph, load_weights=False).eval()
    save_model(
        folder,
        network,
        recipe=recipe,
        space=space,
        preprocessing={"image_size": SIZE, "fit": "letterbox"},
        adjacency=graph,
        training_patient_digest="0",
        license="none",
    )
    return folder


def plain_loop(model: LoadedModel, paths: list[Path]) -> np.ndarray:
    """What one writes first."""
    prepare = transforms.Compose([transforms.Resize((SIZE, SIZE)), transforms.ToTensor()])
    device = model.network.mean.device
    scores = []
    with torch.inference_mode():
        for path in paths:
            image = prepare(Image.open(path).convert("L"))[None].to(device)
            scores.append(torch.sigmoid(model.network(image).logits).cpu().numpy())
    return np.concatenate(scores)


def main() -> int:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of PNG radiographs")
    parser.add_argument("--files", type=int, default=1000)
    options = parser.parse_args()
    found = sorted(options.root.glob("*.png"))
    if not found:
        print(f"no PNG files in {options.root}; set TRCGL_REAL_DATA or give --root")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scans = folder / "scans"
        scans.mkdir()
        for number in range(options.files):
            (scans / f"{number:06d}.png").symlink_to(found[number % len(found)])
        paths = sorted(scans.iterdir())
        run = write_model(folder / "model")
        model = load_model(run, device="cuda" if torch.cuda.is_available() else "cpu")
        plain_loop(model, paths[:8])
        start = time.perf_counter()
        plain = plain_loop(model, paths)
        peer = time.perf_counter() - start
        export(run, folder / "exported")
        seconds, tables = {}, []
        for name in ("model", "exported"):
            start = time.perf_counter()
            scores, _, _ = predict_to(folder / f"{name}.parquet", folder / name, [scans], PredictOptions())
            seconds[name] = time.perf_counter() - start
            tables.append(scores.table.select(pl.col("^score/.*$")).to_numpy())
    assert len(tables[0]) == len(plain) == options.files and np.allclose(tables[0], tables[1], atol=1e-4)
    print(f"{options.files} files ({len(found)} PNG of {options.root.name}), {len(os.sched_getaffinity(0))} CPUs")
    print(f"plain loop                      {options.files / peer:8.1f} images/s")
    for name, ours in seconds.items():
        print(f"trcgl predict, {name:9} folder  {options.files / ours:8.1f} images/s, ratio {peer / ours:.2f}")
    print(f"claim: at least {CLAIM} with the exported folder")
    return int(peer / seconds["exported"] < CLAIM)


if __name__ == "__main__":
    sys.exit(main())
