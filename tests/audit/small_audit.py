"""Everything an audit needs, made in a second: dataset, generator, two halves' classifiers, a synthetic folder."""

from pathlib import Path
from typing import NamedTuple

from tests.dataset.small_dataset import SPACE, write_dataset
from tests.generate.small_generator import write_generator, write_screener
from trcgl.core.storage import read_json, sha256_file, write_json
from trcgl.dataset.patient_halves import half
from trcgl.dataset.store import open_dataset
from trcgl.generate.synthesize import SynthesizeOptions, synthesize

OPTIONS = SynthesizeOptions(targets=("Hernia", "Edema"), each=6, steps=2, batch_size=8, accelerator="cpu", devices=1)


class Small(NamedTuple):
    synthetic: Path
    dataset: Path
    auditor: Path
    generator: Path
    screener: Path


def write_small(folder):
    """Write everything; returns the folders."""
    dataset = write_dataset(folder / "small", train=120, val=60, test=60)
    generator = write_generator(folder / "generator", dataset)
    screener = write_classifier(folder / "screener", dataset, "first")
    auditor = write_classifier(folder / "auditor", dataset, "second")
    synthesize(generator, dataset, screener, folder / "synthetic", OPTIONS)
    return Small(folder / "synthetic", dataset, auditor, generator, screener)


def write_classifier(folder, dataset, which):
    """A finished, calibrated run of an untrained classifier on one half of the train patients; returns the folder."""
    patients = half(open_dataset(dataset), which)["patient_id"].unique().to_list()
    write_screener(folder, dataset, patients=patients)
    info = read_json(dataset / "dataset.json")
    recorded = {"dataset": f"../{dataset.name}", "dataset_digest": sha256_file(dataset / "dataset.json")}
    write_json(folder / "run.json", {**read_json(folder / "run.json"), **recorded})
    model = read_json(folder / "model" / "model.json")
    write_json(
        folder / "model" / "model.json",
        {**model, "temperature": 1.0, "thresholds": dict.fromkeys(SPACE.findings, 0.5)},
    )
    assert info["label_space"]["findings"] == list(SPACE.findings)
    return folder
