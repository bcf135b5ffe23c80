"""What each verb of the command line does: flags in, a result and its words out.

A stage is imported only when its verb runs, so that `trcgl --help` is there at once.
"""

from trcgl.verbs.datasets import describe, prepare
from trcgl.verbs.drawing import audit, synthesize
from trcgl.verbs.judging import compare, evaluate, predict
from trcgl.verbs.starting import demo, doctor
from trcgl.verbs.training import train, train_generator
from trcgl.verbs.verb import NOTICE, Command, Done, Verb, plain

__all__ = ["NOTICE", "VERBS", "Command", "Done", "Verb"]

VERBS: dict[str, Verb] = {
    "demo": Verb(
        "Everything below on drawn phantoms, on a laptop CPU, in minutes.",
        "trcgl demo --out trcgl-demo",
        plain(demo),
    ),
    "prepare": Verb(
        "Turn an archive's label table and radiographs into a dataset folder.",
        "trcgl prepare nih --root NIH --out nih",
        prepare,
    ),
    "describe": Verb(
        "The long tail of a dataset in numbers and pictures.",
        "trcgl describe nih",
        plain(describe),
    ),
    "train": Verb(
        "Train a classifier into a run folder.",
        "trcgl train nih --recipe nih_mini --model.weights efficientnet_lite0_imagenet.safetensors --out run",
        train,
    ),
    "train-generator": Verb(
        "Train a diffusion model that draws radiographs of the findings it is asked for.",
        "trcgl train-generator phantom --recipe generator_phantom --out generator",
        train_generator,
    ),
    "synthesize": Verb(
        "Draw radiographs of rare findings with a generator, and screen them.",
        "trcgl synthesize generator --dataset phantom --screener run --out synthetic",
        synthesize,
    ),
    "audit": Verb(
        "Ask of drawn images whether they are faithful, new and diverse, and whether they show what they claim.",
        "trcgl audit synthetic --dataset phantom --auditor other-half",
        audit,
    ),
    "evaluate": Verb(
        "Judge a finished run, with patient-level intervals and a report.",
        "trcgl evaluate run",
        plain(evaluate),
    ),
    "compare": Verb(
        "Paired patient-bootstrap differences between evaluated runs.",
        "trcgl compare baseline run",
        plain(compare),
    ),
    "predict": Verb(
        "Calibrated scores for files and folders.",
        "trcgl predict run scans/ --out scores.csv",
        plain(predict),
    ),
    "doctor": Verb(
        "What this machine has: torch, GPU, decoders, disk.",
        "trcgl doctor",
        plain(doctor),
    ),
}
"""Name to verb, in the order of the work."""
