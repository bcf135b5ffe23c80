"""`trcgl train`: train a classifier on train, and choose the best epoch on val."""

import copy
import datetime
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import nn

from trcgl.core import storage
from trcgl.core.errors import RecipeError
from trcgl.core.folder_kind import DATASET, expect
from trcgl.core.lock import locked
from trcgl.core.randomness import derive_seed
from trcgl.core.recipe import Recipe, TrainRecipe, differences, from_json, to_json
from trcgl.dataset.cooccurrence import count_labels
from trcgl.dataset.manifest import of_views, taking_part
from trcgl.dataset.store import Dataset, open_dataset
from trcgl.dataset.synthetic_rows import SyntheticRows, open_synthetic
from trcgl.model.backbone import checkpoint_gradients, freeze_stages, license_of
from trcgl.model.folder import save_model
from trcgl.model.label_graph import build_adjacency
from trcgl.model.label_text import finding_vectors
from trcgl.model.trcgl_net import TrcglNet
from trcgl.training.averaging import MovingAverage
from trcgl.training.batches import RadiographData
from trcgl.training.check_recipe import check
from trcgl.training.checkpoint_io import WholeCheckpointIO
from trcgl.training.checkpointing import BEST, LAST, CheckpointSaver
from trcgl.training.classifier import Classifier
from trcgl.training.features import read_cached_features, remove_own_features
from trcgl.training.head_warmup import HeadWarmup
from trcgl.training.launch import Launch, launched
from trcgl.training.optimizer import warmup_stage
from trcgl.training.retraining import HeadRestart
from trcgl.training.sampling import pretraining_epochs, retrained_from
from trcgl.training.start_patients import check_start, write_patients
from trcgl.training.stop import StopRequest, stop_signals
from trcgl.training.trainer import on_gpu, quiet, say, trainer_settings
from trcgl.training.training_log import GoBack, MetricsLog, Stopwatch, cost, named_logger, progress
from trcgl.training.validation import check_labels

SCHEMA = "trcgl.run/1"


def train(dataset: Path, recipe: Recipe, out: Path, synthetic: Path | None = None) -> dict[str, Any]:
    """Train a classifier into a run folder. Calling it again resumes the run and ends with the same weights.

    Reads the train and val rows of the dataset, never test; and the kept images of the folder `synthetic`, if given.

    Returns:
        The content of `run.json`, with the best epoch and its val mAP.

    Raises:
        RecipeError: a setting is wrong or contradicts the launcher, `out` has another recipe or dataset, the text model
            of `model.label_text` is missing, or training diverged.
        DataError: the dataset cannot be used, the initial weights have seen patients of val or test, `synthetic` was
            generated for another dataset, another process writes to
            `out`, or the disk is full.
        CheckpointError: initial weights or the checkpoint to resume from cannot be read.
        Interrupted: a signal stopped the training; its state is saved.
    """
    check(recipe)
    expect(dataset, DATASET)
    opened, out = open_dataset(dataset), Path(out)
    rows = synthetic_rows(synthetic, opened, recipe) if synthetic else None
    launch = launched(recipe.train.devices, recipe.train.nodes, gpu=on_gpu(recipe.train.accelerator))
    with nullcontext() if launch.rank else locked(out):
        info = _claim(opened, recipe, out, rows, launch)
        if "finished" in info:
            say(_finished(out, info))
            return info
        # The trainer changes signal handlers, default threads and warning filters of this process.
        with stop_signals() as request, quiet():
            return _fit(opened, recipe, out, info, request, rows, launch)


def synthetic_rows(synthetic: Path, opened: Dataset, recipe: Recipe) -> SyntheticRows:
    """The synthetic rows of a run.

    Raises:
        DataError: they were generated for another dataset.
        RecipeError: they contradict another setting.
    """
    if recipe.train.half != "none":
        raise RecipeError(
            f"train.half is {recipe.train.half}, and --synthetic was given: the generator was trained on both halves."
        )
    if recipe.synthetic.schedule == "pretrain" and recipe.train.epochs < 2:
        raise RecipeError("synthetic.schedule is pretrain, which needs train.epochs of at least 2.")
    if retrained_from(recipe.train) <= pretraining_epochs(recipe):
        raise RecipeError(
            f"train.retrain_epochs is {recipe.train.retrain_epochs}, which leaves no epoch of real images after the "
            f"{pretraining_epochs(recipe)} of synthetic.pretrain_share. Choose fewer of either."
        )
    return open_synthetic(synthetic, opened, recipe.synthetic.dose, recipe.train.views)


def _claim(
    dataset: Dataset, recipe: Recipe, out: Path, synthetic: SyntheticRows | None, launch: Launch
) -> dict[str, Any]:
    """The content of `run.json`, which the first process writes when the run starts."""
    info: dict[str, Any] = {
        "schema": SCHEMA,
        "dataset": os.path.relpath(dataset.folder.resolve(), out.resolve()),
        "dataset_digest": storage.sha256_file(dataset.folder / "dataset.json"),
        "synthetic": None,
        "command": storage.command(),
        "started": _now(),
    }
    if synthetic:
        folder = os.path.relpath(synthetic.dataset.folder.resolve(), out.resolve())
        info["synthetic"] = {"folder": folder, "digest": synthetic.digest, "rows": synthetic.rows.height}
    if launch.rank:
        return storage.read_json(out / "run.json") if (out / "run.json").exists() else info
    started = storage.claim(
        out, "recipe.json", to_json(recipe), lambda stored: "; ".join(differences(from_json(stored), recipe))
    )
    if not started or not (out / "run.json").exists():
        storage.write_json(out / "environment.json", storage.environment())
        storage.write_json(out / "run.json", info)
    stored = storage.read_json(out / "run.json")
    if stored["dataset_digest"] != info["dataset_digest"]:
        raise RecipeError(
            f"{out} was trained on another dataset ({stored['dataset']}), not on {dataset.folder} as it is now. "
            "Choose another --out."
        )
    before, now = ((run.get("synthetic") or {}).get("digest") for run in (stored, info))
    if before != now:
        used = f"the synthetic images of {stored['synthetic']['folder']}" if before else "real images alone"
        raise RecipeError(f"{out} was trained with {used}, not with this --synthetic. Choose another --out.")
    return stored


def _fit(
    opened: Dataset,
    recipe: Recipe,
    out: Path,
    info: dict[str, Any],
    request: StopRequest,
    rows: SyntheticRows | None,
    launch: Launch,
) -> dict[str, Any]:
    rows_used = taking_part(opened.manifest, with_none=recipe.train.with_none)
    for sentence in check_labels(of_views(rows_used, recipe.train.views, str(opened.folder)), opened.space):
        say(sentence)
    used = rows if rows and rows.rows.height and recipe.synthetic.weight else None
    data = RadiographData(opened, recipe, used)
    counted = rows.counts(data.train_manifest) if rows else None
    _announce(data, opened, recipe, counted)
    conditional = count_labels(data.counted_rows.labels).conditional(recipe.model.graph_smoothing)
    graph = build_adjacency(torch.from_numpy(conditional), recipe.model)
    text = recipe.model.label_text
    vectors = None if text is None else finding_vectors(text, opened.space.findings)
    size = opened.require_images().shape[1]
    if size != recipe.model.image_size:
        say(f"images are resized from {size} to {recipe.model.image_size} pixels (model.image_size) as they are read")
    torch.manual_seed(derive_seed(recipe.seed, "network"))
    network = TrcglNet(recipe.model, len(opened.space.findings), graph, vectors=vectors)
    loaded = network.backbone.loaded
    start = None
    if loaded:
        start = {**loaded.record(), "patients": check_start(loaded, opened)}
        say(loaded.sentence())
        say(start["patients"])
    if recipe.train.frozen_backbone:
        read_cached_features(data, network, recipe, out, launch, request)
    _prepare_network(network, recipe.train, launch)
    steps = recipe.train.epochs * -(-data.train_batches // recipe.train.accumulate)
    classifier = Classifier(
        network,
        recipe,
        opened.space,
        data.train_rows,
        data.val_rows,
        steps,
        data.all_train_rows.image_ids,
        counted,
        data.counted_rows,
    )

    if launch.devices * launch.nodes == 1:  # several processes pad their parts of a batch to pairs
        _check_last_batch(classifier, data.epoch_rows)

    checkpoints = out / "checkpoints"
    retrained = retrained_from(recipe.train) if recipe.train.retrain_epochs else 0
    first_epoch = max(retrained, warmup_stage(recipe.train), pretraining_epochs(recipe) if used else 0)
    saver, stopwatch = CheckpointSaver(checkpoints, recipe.train, request, first_epoch), Stopwatch()
    trainer = _trainer(recipe, out, saver, stopwatch, launch, steps)
    if trainer.is_global_zero:
        for unfinished in checkpoints.glob(".*.part"):  # of a process that was killed while it saved
            unfinished.unlink()
    resume = checkpoints / LAST if (checkpoints / LAST).exists() else None
    if resume:
        say(f"resuming {out}")
    trainer.fit(classifier, datamodule=data, ckpt_path=resume, weights_only=True)
    if trainer.is_global_zero:
        classifier.load_state_dict(WholeCheckpointIO().load_checkpoint(checkpoints / BEST)["state_dict"])
        digest = storage.digest(data.training_patients)
        write_patients(out, opened, data.training_patients, digest, loaded)
        save_model(
            out / "model",
            network.eval(),
            recipe=recipe,
            space=opened.space,
            preprocessing={
                "image_size": recipe.model.image_size,
                "fit": opened.info["fit"],
                "stored_size": size,
                # Left out where empty, as in models of 0.2.0.
                **({"accept": accepted} if (accepted := opened.info.get("accept")) else {}),
            },
            adjacency=graph,
            vectors=vectors,
            training_patient_digest=digest,
            license=license_of(recipe.model, loaded),
            source=opened.info["source"],
            start=start,
            synthetic=info.get("synthetic"),
        )
        best = {"epoch": saver.best_epoch + 1, "val/mAP": saver.best}
        info = {**info, "best": best, "steps": trainer.global_step, "cost": cost(network, stopwatch)}
        info["finished"] = _now()
        if start:
            info["start"] = start
        if counted:
            info["synthetic"] = {**info["synthetic"], "findings": counted}
        storage.write_json(out / "run.json", info)
        remove_own_features(recipe, out)
        say(_finished(out, info))
    return info


def _prepare_network(network: TrcglNet, settings: TrainRecipe, launch: Launch) -> None:
    """Settings of speed, memory and several processes, which change no result but the last bits."""
    if on_gpu(settings.accelerator) and launch.devices * launch.nodes > 1:  # statistics over the whole batch
        network.head_norm = nn.SyncBatchNorm.convert_sync_batchnorm(network.head_norm)
    if settings.gradient_checkpointing:
        checkpoint_gradients(network.backbone)
    if on_gpu(settings.accelerator):
        network.to(memory_format=torch.channels_last)  # convolutions of half precision are faster in this layout
    if settings.compile:
        network.compile()


def _check_last_batch(classifier: Classifier, rows: int) -> None:
    """Refuse a batch of one image where batch norm would see one value per channel.

    Raises:
        RecipeError: names batch sizes without such a batch.
    """
    train, side = classifier.recipe.train, classifier.recipe.model.image_size
    if train.batch_size > 1 and rows % train.batch_size != 1:
        return
    network = copy.deepcopy(classifier.network).train()  # a forward pass changes running statistics
    if train.frozen_stages is not None:
        freeze_stages(network.backbone, train.frozen_stages)
    stopped = train.head_warmup_epochs == train.epochs and train.frozen_mode == "eval"
    if stopped or train.frozen_backbone:
        network.backbone.eval()
        network.norm.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            network(torch.zeros(1, 1, side, side))
    except ValueError as error:
        near = (train.batch_size - 1, train.batch_size + 1, train.batch_size + 2)
        sizes = [str(size) for size in near if size > 1 and rows % size != 1][:2]
        advice = f"Give --train.batch-size {' or '.join(sizes)}." if sizes else "More training images are needed."
        raise RecipeError(
            f"train.batch_size {train.batch_size} leaves a batch of one of the {rows} training images, and batch norm "
            f"needs two at {side} pixels. {advice}"
        ) from error


def _announce(data: RadiographData, opened: Dataset, recipe: Recipe, counted: dict[str, dict[str, Any]] | None) -> None:
    """Print the half of the patients and the numbers of synthetic images, where the run has either."""
    half = recipe.train.half
    if half != "none":
        patients = data.train_manifest["patient_id"].n_unique()
        say(f"the {half} half of the train patients: {patients:,} patients, {len(data.train_rows):,} images")
        absent = [finding for finding in opened.space.findings if not (data.train_manifest[finding] == 1).any()]
        if absent:
            say(f"this half has no positive of {', '.join(absent)}: the model cannot learn these findings")
    if counted and not any(numbers["synthetic_with"] for numbers in counted.values()):
        say("no synthetic image was kept, or none is within the dose: training on real images alone")
    elif counted and not recipe.synthetic.weight:
        say("synthetic.weight is 0: training on real images alone")
        return
    for finding, numbers in (counted or {}).items():
        if numbers["synthetic_with"]:
            dose = "" if numbers["dose"] is None else f" (dose {numbers['dose']:.2f})"
            synthetic = f"{numbers['synthetic_for']:,} synthetic images of it{dose}"
            say(f"{finding}: {numbers['real']:,} real, {synthetic}, {numbers['synthetic_with']:,} that show it")


def _trainer(
    recipe: Recipe, out: Path, saver: CheckpointSaver, stopwatch: Stopwatch, launch: Launch, steps: int
) -> lightning.Trainer:
    settings = recipe.train
    of_epoch, stage = steps // settings.epochs, warmup_stage(settings)
    average = None
    if settings.ema:
        average = MovingAverage.exponential(settings.ema, start=of_epoch * stage, warmup=settings.ema_warmup)
    elif settings.swa_epochs:
        average = MovingAverage.equal(of_epoch * (settings.epochs - settings.swa_epochs))
    warmup = HeadWarmup(settings, of_epoch * stage) if stage else None
    restart = HeadRestart(average) if settings.retrain_epochs else None
    stages = [callback for callback in (average, warmup, restart) if callback]
    frozen = settings.head_warmup_epochs + settings.retrain_epochs > 0  # a frozen backbone has no gradient
    return lightning.Trainer(
        **trainer_settings(settings, launch, unused_parameters=frozen),
        max_epochs=settings.epochs,
        accumulate_grad_batches=settings.accumulate,
        callbacks=[*stages, GoBack(), progress(), stopwatch, saver],
        logger=[MetricsLog(out / "metrics.jsonl"), *named_logger(settings.logger, out)],
        default_root_dir=out,
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _finished(out: Path, info: dict[str, Any]) -> str:
    best = info["best"]
    return f"{out} is finished: val mAP {best['val/mAP']:.4f} after epoch {best['epoch']}. Next: trcgl evaluate {out}"
