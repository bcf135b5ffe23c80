"""Is the phantom benchmark hard enough? A linear model on thumbnails against a plain convolutional network.

    OMP_NUM_THREADS=2 python benchmarks/phantom_difficulty.py

The linear model sees a gray histogram of 32 bins and an 8 x 8 thumbnail: a logistic regression per finding, its penalty
chosen on val. The network is the recipe `phantom` with a linear head, cross-entropy and repeat-factor sampling.
Both learn the 4,000 training phantoms of the default benchmark and are scored on its test split, weighted to the
benchmark's prevalence. Exits with 1 unless the network's tail mAP lies between .3 and .7 and the linear model's is at
most a third of it.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from trcgl.core.recipe import overridden
from trcgl.dataset.labels import GROUPS
from trcgl.dataset.manifest import label_array
from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.sources.phantom import Options
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.recipes import RECIPES

PENALTIES = (0.001, 0.01, 0.1, 1.0)
LOWEST, HIGHEST, SHARE = 0.3, 0.7, 1 / 3


def features(images: np.ndarray) -> np.ndarray:
    """Gray histogram and thumbnail of every image."""
    histogram = np.stack([np.bincount(image.ravel() // 8, minlength=32) for image in images]) / images[0].size
    side = images.shape[1] // 8
    cut = images[:, : 8 * side, : 8 * side].reshape(len(images), 8, side, 8, side)
    return np.concatenate([histogram, cut.mean((2, 4)).reshape(len(images), 64)], axis=1)


def linear(dataset: Dataset) -> dict[str, float]:
    """Weighted average precision on test of every finding."""
    x, y, weight = {}, {}, {}
    for split in ("train", "val", "test"):
        rows = dataset.split(split)
        x[split] = features(dataset.require_images()[rows["row"].to_numpy()])
        y[split], weight[split] = label_array(rows, dataset.space), rows["weight"].to_numpy()
    scale = StandardScaler().fit(x["train"])
    x = {split: scale.transform(rows) for split, rows in x.items()}

    def precision(model: LogisticRegression, split: str, place: int) -> float:
        score = model.decision_function(x[split])
        return float(average_precision_score(y[split][:, place], score, sample_weight=weight[split]))

    scores = {}
    for place, finding in enumerate(dataset.space.findings):
        fits = [LogisticRegression(C=c, max_iter=1000).fit(x["train"], y["train"][:, place]) for c in PENALTIES]
        best = max(fits, key=lambda model: precision(model, "val", place))
        scores[finding] = precision(best, "test", place)
    return scores


def network(dataset: Dataset, out: Path) -> dict[str, float]:
    """Average precision on test of every finding, for the recipe `phantom` with a linear head."""
    from trcgl.evaluate.evaluate import evaluate_run
    from trcgl.training.train import train

    plain = {"model.head": "linear", "loss.name": "bce", "train.row_sampling": "repeat_factor"}
    recipe = overridden(RECIPES["phantom"](), plain)
    started = time.perf_counter()
    train(dataset.folder, recipe, out)
    print(f"trained in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    evaluation = evaluate_run(out)
    return {finding: evaluation["findings"][finding]["AP"]["value"] for finding in dataset.space.findings}


def main() -> int:
    """Render, train and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--difficulty", type=float, default=1.0)
    parser.add_argument("--train-images", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0, help="seed of the phantoms")
    parser.add_argument("--keep", type=Path, help="folder for dataset and run; a temporary one without")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = asked.keep or Path(temporary)
        options = Options(train_images=asked.train_images, difficulty=asked.difficulty, seed=asked.seed, boxes=False)
        prepare("phantom", None, work / "phantom", PrepareOptions(size=options.size), options)
        dataset = open_dataset(work / "phantom")
        by_linear, by_network = linear(dataset), network(dataset, work / "run")
    space = dataset.space
    print(
        f"phantoms of seed {asked.seed}, difficulty {asked.difficulty:g}, {asked.train_images} for training; AP on test"
    )
    print(f"{'':32} {'linear':>7} {'network':>7} {'ratio':>6}")
    groups = {f"{group} mAP": space.in_group(group) for group in GROUPS}
    for name, findings in {**{finding: (finding,) for finding in space.findings}, **groups}.items():
        left, right = (float(np.mean([scores[finding] for finding in findings])) for scores in (by_linear, by_network))
        print(f"{name:32} {left:7.3f} {right:7.3f} {left / right:6.2f}")
    fair = LOWEST <= right <= HIGHEST and left <= SHARE * right
    print(f"tail mAP of the network between {LOWEST} and {HIGHEST}, linear at most a third: {'yes' if fair else 'NO'}")
    return int(not fair)


if __name__ == "__main__":
    sys.exit(main())
