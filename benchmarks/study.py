"""`trcgl study` against the same runs trained and scored one after the other: time, and memory over a long study.

    OMP_NUM_THREADS=1 python benchmarks/study.py

A few hundred phantoms of 64 px, two arms, `--seeds` seeds. The peer trains the same recipes in one process, fits what
is fitted on val and scores test. Exits with 1 if the study takes more than 1.05 times as long, or if its own memory
grows by more than 20 MiB from the first quarter of the runs to the last.
"""

import argparse
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.sources.phantom import Options
from trcgl.recipes import RECIPES
from trcgl.study.peers import PEERS
from trcgl.study.plan import Plan, against_baseline, comparable
from trcgl.study.runner import jobs_of
from trcgl.study.study import study

PIXELS = 64


def resident_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096 / 2**20


def watched(plan: Plan, out: Path) -> tuple[float, list[tuple[int, float]]]:
    """Seconds of a study, and (runs done, memory of the process that conducts it) every second."""
    seen: list[tuple[int, float]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            seen.append((len(list(out.glob("runs/*/seed-*.json"))), resident_mib()))

    thread = threading.Thread(target=watch)
    thread.start()
    started = time.monotonic()
    try:
        study(plan, out)
    finally:
        over.set()
        thread.join()
    return time.monotonic() - started, seen


def by_hand(plan: Plan, out: Path) -> float:
    """Seconds of the same runs in this process."""
    from trcgl.evaluate.evaluate import score_run
    from trcgl.model.run_folder import open_run
    from trcgl.training.train import train

    started = time.monotonic()
    for job in jobs_of(plan, out):
        train(job.dataset, job.recipe, job.folder, job.synthetic)
        score_run(open_run(job.folder))
    return time.monotonic() - started


def main() -> None:
    """Run both and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    base = RECIPES["phantom"]()
    base = replace(
        base,
        model=replace(base.model, image_size=PIXELS),
        train=replace(base.train, epochs=given.epochs, accelerator="cpu"),
    )
    arms = (PEERS["trcgl"], PEERS["linear"])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        options = Options(train_images=given.images, positives_per_finding=10, size=PIXELS, boxes=False)
        prepare("phantom", None, root / "data", PrepareOptions(size=PIXELS), options)
        contrasts = against_baseline(arms, "trcgl", None)
        plan = Plan("peers", root / "data", comparable(base), arms, contrasts, given.seeds)
        ours, seen = watched(plan, root / "study")
        peer = by_hand(plan, root / "by-hand")
    runs = len(arms) * given.seeds
    early = [memory for done, memory in seen if done <= runs / 4]
    late = [memory for done, memory in seen if runs > done >= 3 * runs / 4]
    growth = max(late) - max(early) if early and late else float("nan")
    print(f"{runs} runs: study {ours:.1f} s, by hand {peer:.1f} s, ratio {ours / peer:.3f}; claim: at most 1.05")
    print(f"memory of the study's own process: {max(early):.0f} MiB early, {growth:+.1f} MiB late; claim: at most +20")
    sys.exit(ours / peer > 1.05 or not growth <= 20)


if __name__ == "__main__":
    main()
