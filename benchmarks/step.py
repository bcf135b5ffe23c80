"""One training step of the full network against the same timm backbone with timm's own linear head.

    OMP_NUM_THREADS=1 python benchmarks/step.py

A step is forward, backward and AdamW on ConvNeXtV2-Atto, 224 px, 30 findings. The two take turns, so that a busy
machine slows both; the medians and their ratio are printed. Exits with 1 if the ratio is above 1.05.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from trcgl.core.recipe import ModelRecipe
from trcgl.model.label_graph import adjacency
from trcgl.model.trcgl_net import TrcglNet

FINDINGS = 30
LIMIT = 1.05


def stepper(network: nn.Module, logits: Callable[[Tensor], Tensor], target: Tensor) -> Callable[[Tensor], None]:
    """One optimizer step on one batch."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step(image: Tensor) -> None:
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(logits(image), target).backward()
        optimizer.step()

    return step


def main() -> int:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    torch.manual_seed(0)
    image = torch.rand(options.batch_size, 1, 224, 224)
    target = (torch.rand(options.batch_size, FINDINGS) < 0.1).float()
    recipe = ModelRecipe(backbone="convnextv2_atto", learn_gates=True)
    full = TrcglNet(recipe, FINDINGS, adjacency(torch.rand(FINDINGS, FINDINGS) / 4, 0.02))
    plain = timm.create_model("convnextv2_atto", num_classes=FINDINGS)
    repeated = image.expand(-1, 3, -1, -1).contiguous()
    steps = {
        "trcgl": (stepper(full, lambda x: full(x).logits, target), image),
        "timm": (stepper(plain, plain, target), repeated),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.rounds + 2):
        order = list(steps.items()) if turn % 2 else list(steps.items())[::-1]
        for name, (step, batch) in order:
            start = time.perf_counter()
            step(batch)
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    ours, peer = (1e3 * statistics.median(times[name]) for name in ("trcgl", "timm"))
    print(f"one training step, ConvNeXtV2-Atto, 224 px, batch {options.batch_size}, {torch.get_num_threads()} threads")
    print(f"trcgl, full network     {ours:8.1f} ms")
    print(f"timm, linear head       {peer:8.1f} ms")
    print(f"ratio                   {ours / peer:8.3f}   (at most {LIMIT})")
    return int(ours / peer > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
