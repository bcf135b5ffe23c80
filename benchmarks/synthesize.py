"""Images per second of `trcgl synthesize`, against diffusers' own pipeline on the same weights.

    OMP_NUM_THREADS=1 python benchmarks/synthesize.py [--generator GENERATOR --dataset DATASET] [--precision bf16]

Ours: 20 steps of DPM-Solver++ 2M, prompts encoded once, both halves of the guidance in the same batch. The peer:
`StableDiffusionPipeline.__call__` with the scheduler of the folder and its default of 50 steps. Batch, precision and
guidance scale are the same, but ours stops guidance at a log-SNR of 0, as `trcgl synthesize` does. Both
profit from what ours asks of malloc; they take turns, and without a GPU the CPU time of the process is taken. Without
`--generator` the weights are random, and speed says nothing about the images. With a generator and its dataset both
sample the label sets of val, and the kernel distance (KID) of their images to the real val images is printed; the peer
does not support context tokens, so ours does not use them either. Exits with 1 below 2.2 times
the rate, or if our KID lies above the peer's interval.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from trcgl.audit.checks.fidelity import compare_with_real
from trcgl.audit.features import feature_space
from trcgl.audit.patients import PatientImages, Sides
from trcgl.core.generator_recipe import ContextRecipe, GeneratorRecipe
from trcgl.dataset.labels import LabelSpace
from trcgl.dataset.store import open_dataset
from trcgl.generate import folder, pipeline
from trcgl.generate.plan import label_set
from trcgl.generate.prompts import prompt
from trcgl.generate.sampling_run import prepare_network
from trcgl.generate.solver import sample

FINDINGS = ("Cardiomegaly", "Pneumothorax", "Azygos lobe", "Hydropneumothorax")
STEPS, DEFAULT_STEPS, GUIDANCE = 20, 50, 3.0
LIMIT = 2.2


def from_scratch() -> pipeline.Generator:
    """The network of the default recipe; plain diffusers does not support context tokens."""
    space = LabelSpace("benchmark", FINDINGS)
    generator = pipeline.build(GeneratorRecipe(context=ContextRecipe(placement="none")), space)
    for part in (generator.text_encoder, generator.vae, generator.unet):
        part.eval().requires_grad_(False)
    return generator


def diffusers_pipeline(generator: pipeline.Generator, precision: str, device: torch.device) -> StableDiffusionPipeline:
    """The parts of a generator, copied before ours are brought into our layout."""
    parts = {name: copy.deepcopy(getattr(generator, name)) for name in ("vae", "text_encoder", "unet", "scheduler")}
    theirs = StableDiffusionPipeline(
        **parts,
        tokenizer=generator.tokenizer,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    theirs.set_progress_bar_config(disable=True)
    return theirs.to(device, torch.bfloat16) if precision == "bf16" else theirs.to(device)


def timed(work: Callable[[], object]) -> float:
    """Seconds of the GPU, or else of the processor, so that other work on the machine does not count."""
    if not torch.cuda.is_available():
        start = time.process_time()
        work()
        return (time.process_time() - start) / torch.get_num_threads()
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def distances(
    generator: pipeline.Generator, theirs: StableDiffusionPipeline, dataset: Path, images: int, batch: int
) -> bool:
    """Sample the label sets of val with both, print KID to val; return whether ours is within the peer's interval."""
    opened = open_dataset(dataset)
    val, train = opened.split("val").sample(images, seed=0), opened.split("train")
    wanted = [prompt(label_set(row, opened.space), opened.space.normal) for row in val.iter_rows(named=True)]
    sampled: dict[str, list[np.ndarray]] = {"ours": [], "peer": []}
    with torch.inference_mode():
        empty = generator.encode_empty().to(generator.unet.dtype)
        for start in range(0, images, batch):
            asked, seeds = wanted[start : start + batch], list(range(start, min(start + batch, images)))
            condition = generator.encode(asked).to(generator.unet.dtype)
            sampled["ours"].append(sample(generator, condition, empty, seeds, steps=STEPS, guidance=GUIDANCE))
            gray = theirs(
                [prompt.text for prompt in asked],
                num_inference_steps=DEFAULT_STEPS,
                guidance_scale=GUIDANCE,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="np",
            ).images
            sampled["peer"].append((gray.mean(-1) * 255).round().astype(np.uint8))
    space, store = feature_space("random"), opened.require_images()
    held_out = space(store[val["row"].to_numpy()])
    chosen = train.sample(min(train.height, 4 * images), seed=0)
    real = space(store[chosen["row"].to_numpy()])
    found = {
        name: compare_with_real(
            Sides(
                PatientImages.of(space(np.concatenate(parts)), [str(place) for place in range(images)]),
                PatientImages.of(held_out, val["patient_id"].to_list()),
                PatientImages.of(real, chosen["patient_id"].to_list()),
            ),
            kernel="kid",
            seed=0,
        )
        for name, parts in sampled.items()
    }
    for name, distance in found.items():
        print(f"KID, {name}: {distance.value:.5f} {distance.ci}   null {distance.null:.5f} {distance.null_ci}")
    assert found["ours"].value is not None and found["peer"].ci is not None
    return found["ours"].value <= found["peer"].ci[1]


def main() -> int:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", type=Path, help="folder of a trained generator")
    parser.add_argument("--dataset", type=Path, help="the dataset that it was trained on")
    parser.add_argument("--images", type=int, default=256, help="images of each for the KID")
    parser.add_argument("--precision", choices=("32-true", "bf16"), default="32-true")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = folder.load(options.generator) if options.generator else from_scratch()
    generator.context.enabled = False
    theirs = diffusers_pipeline(generator, options.precision, device)
    prepare_network(generator, device, options.precision, False)

    findings = generator.space.findings
    wanted = [prompt((findings[i % len(findings)],), generator.space.normal) for i in range(options.batch_size)]
    with torch.inference_mode():
        dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
        condition, empty = generator.encode(wanted).to(dtype), generator.encode_empty().to(dtype)
    texts, seeds = [prompt.text for prompt in wanted], list(range(options.batch_size))

    def ours() -> object:
        return sample(generator, condition, empty, seeds, steps=STEPS, guidance=GUIDANCE)

    def peer() -> object:
        noise = [torch.Generator().manual_seed(seed) for seed in seeds]
        return theirs(
            texts, num_inference_steps=DEFAULT_STEPS, guidance_scale=GUIDANCE, generator=noise, output_type="np"
        )

    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    for turn in range(options.rounds + 1):
        for name, work in (("ours", ours), ("peer", peer)):
            rate = options.batch_size / timed(work)
            if turn:
                rates[name].append(rate)
    ours_rate, peer_rate = (statistics.median(rates[name]) for name in ("ours", "peer"))
    ratio = statistics.median(a / b for a, b in zip(rates["ours"], rates["peer"], strict=True))
    size, millions = generator.image_size, sum(weight.numel() for weight in generator.unet.parameters()) / 1e6
    print(f"{size} px, U-Net of {millions:.1f} M parameters, batch {options.batch_size}, {options.precision}, {device}")
    print(f"trcgl, {STEPS} steps of DPM-Solver++ 2M        {ours_rate:8.2f} images/s")
    print(f"StableDiffusionPipeline, {DEFAULT_STEPS} steps      {peer_rate:8.2f} images/s")
    print(f"ratio                                   {ratio:8.2f}   (at least {LIMIT})")
    alike = not options.dataset or distances(generator, theirs, options.dataset, options.images, options.batch_size)
    return int(ratio < LIMIT or not alike)


if __name__ == "__main__":
    sys.exit(main())
