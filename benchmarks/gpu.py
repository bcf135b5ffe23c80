"""Run on a CUDA device what a machine without one cannot: every stage once, then speed, MFU and peak memory.

    python benchmarks/gpu.py --out FOLDER [--part stages classifier generator]

`stages` trains every head for an epoch on phantoms, and runs a generator with an autoencoder, `synthesize`, `audit`,
`evaluate`, `predict`, `explain` and `export`. `classifier` trains ConvNeXtV2-Base at 512 px (random weights; phantoms,
resized). `generator` adapts a base of Stable Diffusion 1.5's size (random weights) with LoRA at 512 px and samples from
it. Images per second are those of whole batches, data loading included; MFU is 3 x the FLOPs of a forward pass x images
per second / the dense bfloat16 peak of the device. All three take about ten minutes on an H200. Without CUDA, `--small`
rehearses the script on CPUs with tiny networks. Exits with 1 if a command fails or a peak differs from its estimate by
more than 15 %.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from trcgl.cli.main import main as trcgl
from trcgl.model.heads import HEADS

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12}
"""Dense bfloat16 operations per second, from the vendor's data sheets."""


class Script:
    """Runs commands of trcgl in this process, and keeps what was measured."""

    def __init__(self, out: Path, *, small: bool) -> None:
        self.out, self.small, self.failed = out, small, list[str]()
        self.measured: dict[str, Any] = {}

    def run(self, *arguments: object) -> float:
        """Run a command; returns the seconds. A failure is kept and the script goes on."""
        command, started = [str(argument) for argument in arguments], time.monotonic()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        code = trcgl(command)
        seconds = time.monotonic() - started
        print(f"{'ok' if code == 0 else f'exit {code}'} {seconds:7.1f} s  trcgl {' '.join(command)}", flush=True)
        if code:
            self.failed.append(command[0])
        return seconds


def stages(script: Script) -> None:
    """Every command once, on small phantoms."""
    data, others = script.out / "phantom", script.out / "others"
    size = ("--size", 64, "--source.size", 64, "--source.train-images", 400, "--source.positives-per-finding", 4)
    script.run("prepare", "phantom", "--out", data, *size)
    script.run("prepare", "phantom", "--out", others, *size, "--source.seed", 1)
    tiny = ("--recipe", "phantom", "--model.image-size", 64, "--train.epochs", 1, "--train.precision", "bf16-mixed")
    for head in sorted(HEADS):
        script.run("train", data, *tiny, "--model.head", head, "--out", script.out / f"head-{head}")
    run, auditor = script.out / "head-trcgl", script.out / "auditor"
    script.run("train", others, *tiny, "--out", auditor)
    script.run("train", data, *tiny, "--train.deterministic", "--out", script.out / "deterministic")
    for where in (run, auditor):
        script.run("evaluate", where)
    short = ("--image-size", 64, "--fit.steps", 20, "--fit.context-steps", 10, "--fit.grid-every", 10)
    vae = ("--autoencoder.kind", "vae", "--autoencoder.steps", 20)
    generator, synthetic = script.out / "generator", script.out / "synthetic"
    recipe = ("--recipe", "generator_phantom")
    script.run("train-generator", data, *recipe, *short, *vae, "--out", script.out / "generator-vae")
    script.run("train-generator", data, *recipe, *short, "--out", generator)
    script.run("synthesize", generator, "--dataset", data, "--screener", run, "--out", synthetic, "--each", 16)
    of = ("--dataset", data, "--auditor", auditor, "--generator", generator, "--out", script.out / "audit")
    script.run("audit", synthetic, *of, "--each", 16, "--sweep-each", 0, "--handwritten-each", 0)
    files = script.out / "files"
    _write_files(data, files)
    script.run("predict", run, files, "--out", script.out / "scores.csv")
    script.run("explain", run, files, "--out", script.out / "maps")
    script.run("export", run, "--out", script.out / "model")


def classifier(script: Script) -> None:
    """Training of ConvNeXtV2-Base at 512 px."""
    backbone, side, batch = ("convnextv2_atto", 64, 8) if script.small else ("convnextv2_base", 512, 64)
    data, run = script.out / "phantom-classifier", script.out / "classifier"
    images = 4 * batch if script.small else 24 * batch
    size = ("--size", 64, "--source.size", 64, "--source.train-images", images, "--source.positives-per-finding", 2)
    script.run("prepare", "phantom", "--out", data, *size)
    network = ("--model.backbone", backbone, "--model.weights", "none", "--model.image-size", side)
    fit = ("--train.batch-size", batch, "--train.epochs", 2, "--train.precision", "bf16-mixed", "--train.save-steps", 0)
    script.run("train", data, "--recipe", "padchest", *network, *fit, "--train.patience", 0, "--out", run)
    cost = json.loads((run / "run.json").read_text())["cost"]
    _report(
        script, f"training {backbone} at {side} px, batch {batch}", cost["images_per_second"], lambda: _network(run)
    )
    script.measured["peak MiB of training"] = cost["peak_memory_mib"]


def generator(script: Script) -> None:
    """Adaptation of a base of Stable Diffusion 1.5's size, and synthesis from it."""
    from trcgl.generate import folder

    data, base, out = script.out / "phantom-generator", script.out / "base", script.out / "adapted"
    side, steps, batch = (64, 20, 4) if script.small else (512, 60, 8)
    size = ("--size", 64, "--source.size", 64, "--source.train-images", 200, "--source.positives-per-finding", 2)
    script.run("prepare", "phantom", "--out", data, *size)
    _write_base(base, small=script.small)
    fit = ("--fit.steps", steps, "--fit.context-steps", 0, "--fit.batch-size", batch, "--fit.grid-every", 0)
    shape = ("--image-size", side, "--context.placement", "output")
    script.run("train-generator", data, "--recipe", "generator_sd15", "--base", base, *shape, *fit, "--out", out)
    if torch.cuda.is_available():
        script.measured["peak MiB of generator training"] = round(torch.cuda.max_memory_allocated() / 2**20)
    rate = batch * _steps_per_second(out / "training" / "network")
    unet = folder.load(out).unet if out.exists() else None

    def forward() -> Callable[[], Any]:
        assert unet is not None
        config = unet.config
        latent = torch.zeros(1, config["in_channels"], side // 8, side // 8)
        hidden = torch.zeros(1, 77, config["cross_attention_dim"])
        return lambda: unet(latent, torch.tensor(1), encoder_hidden_states=hidden)

    _report(script, f"generator training at {side} px, batch {batch}", rate, forward)
    tiny = ("--recipe", "phantom", "--model.image-size", 64, "--train.epochs", 1)
    script.run("train", data, *tiny, "--out", script.out / "screener")
    each = 2 if script.small else 16
    to = ("--dataset", data, "--screener", script.out / "screener", "--each", each)
    first = script.run("synthesize", out, *to, "--out", script.out / "few")
    second = script.run("synthesize", out, *to[:-1], 3 * each, "--out", script.out / "many")
    counts = [json.loads((script.out / name / "report.json").read_text())["counts"] for name in ("few", "many")]
    more = counts[1]["generated"] - counts[0]["generated"]
    print(f"synthesis at {side} px: {more / max(second - first, 1e-9):.2f} images/s")


def _report(script: Script, what: str, rate: float, forward: Callable[[], Callable[[], Any]]) -> None:
    """Print images per second and MFU; `forward` makes a forward pass of one image."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        forward()()
    flops = 3 * counter.get_total_flops() * rate
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    peak = next((peak for device, peak in PEAKS.items() if device in name), None)
    mfu = f"MFU {flops / peak:.1%}" if peak else f"{flops / 1e12:.2f} TFLOP/s, peak of {name} unknown"
    print(f"{what}: {rate:.1f} images/s, {mfu}")
    script.measured[what] = {"images_per_second": rate, "flops_per_second": flops, "device": name}


def _network(run: Path) -> Callable[[], Any]:
    from trcgl.model.folder import load_model

    network = load_model(run / "model").network
    side = json.loads((run / "recipe.json").read_text())["model"]["image_size"]
    return lambda: network(torch.zeros(1, 1, side, side))


def _steps_per_second(folder: Path) -> float:
    """From the times of the TensorBoard log, without the first half, in which kernels are chosen."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(folder / "tensorboard")).Reload()
    events = log.Scalars("loss")
    events = events[len(events) // 2 - 1 :]
    return (events[-1].step - events[0].step) / max(events[-1].wall_time - events[0].wall_time, 1e-9)


def _write_files(data: Path, folder: Path) -> None:
    import numpy as np
    from PIL import Image

    folder.mkdir()
    for number, image in enumerate(np.load(data / "images.npy", mmap_mode="r")[:32]):
        Image.fromarray(np.asarray(image)).save(folder / f"{number}.png")


def _write_base(folder: Path, *, small: bool) -> None:
    """A pipeline with the parts and, unless `small`, the sizes of Stable Diffusion 1.5; its weights are random."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from trcgl.generate.tokenizer import build_tokenizer

    widths, text = ((32, 32), 32) if small else ((320, 640, 1280, 1280), 768)
    down = ("CrossAttnDownBlock2D",) * (len(widths) - 1) + ("DownBlock2D",)
    up = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (len(widths) - 1)
    coarse = (16, 16, 16, 16) if small else (128, 256, 512, 512)
    layers, heads = (1, 2) if small else (12, 12)
    tokenizer = build_tokenizer(["chest radiograph with "], 77)
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=coarse,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1 if small else 2,
            latent_channels=4,
            norm_num_groups=16 if small else 32,
            sample_size=512,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=text,
                intermediate_size=4 * text,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                **ends,
            )
        ),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=64,
            block_out_channels=widths,
            down_block_types=down,
            up_block_types=up,
            cross_attention_dim=text,
            attention_head_dim=8,
            layers_per_block=1 if small else 2,
        ),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"stages": stages, "classifier": classifier, "generator": generator}
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available() and not options.small:
        print("There is no CUDA device here. Rehearse with --small.")
        return 2
    options.out.mkdir(parents=True)
    script = Script(options.out, small=options.small)
    for part in options.part:
        parts[part](script)
    print(json.dumps(script.measured, indent=2))
    if script.failed:
        print(f"failed: {', '.join(script.failed)}")
    return int(bool(script.failed))


if __name__ == "__main__":
    sys.exit(main())
