"""Checks of a recipe before anything is read or trained."""

import math
from operator import attrgetter

from trcgl.core.errors import RecipeError
from trcgl.core.recipe import Recipe
from trcgl.training.losses import LOSSES
from trcgl.training.training_log import require_logger

_AT_LEAST = {
    0: "train.frozen_stages train.patience train.save_steps train.clip_gradient train.warmup_steps train.workers "
    "train.warmup_epochs train.weight_decay train.backbone_decay train.head_warmup_decay "
    "synthetic.weight synthetic.dose augment.mixup model.graph_smoothing model.encoder_blocks",
    1: "train.epochs train.batch_size train.accumulate model.image_size model.label_embedding model.attention_heads "
    "model.attention_blocks model.queries model.feature_grid",
}
"""Smallest value to the paths of the settings that have it."""


def check(recipe: Recipe) -> None:
    """Refuse settings that are out of range, unknown or not installed.

    Raises:
        RecipeError: names the setting.
    """
    train, synthetic, fixed = recipe.train, recipe.synthetic, recipe.evaluate.threshold
    LOSSES[recipe.loss.name]  # raises for an unknown name
    require_logger(train.logger)
    at_least = [
        (path, (value := attrgetter(path)(recipe)) is None or least <= value < math.inf, f"at least {least}")
        for least, paths in _AT_LEAST.items()
        for path in paths.split()
    ]
    for path, holds, wanted in (
        *at_least,
        ("loss.label_smoothing", 0 <= recipe.loss.label_smoothing < 1, "at least 0 and below 1"),
        ("train.head_warmup_epochs", 0 <= train.head_warmup_epochs <= train.epochs, "between 0 and train.epochs"),
        (
            "train.retrain_epochs",
            0 <= train.retrain_epochs <= max(0, train.epochs - max(1, train.head_warmup_epochs)),
            "at least 0, and leave an epoch of train.epochs after train.head_warmup_epochs",
        ),
        (
            "train.head_warmup_lr",
            train.head_warmup_lr is None or (0 < train.head_warmup_lr < math.inf and train.head_lr > 0),
            "above 0, and so must be train.head_lr",
        ),
        (
            "train.head_warmup_epochs",
            train.head_warmup_lr is None or train.head_warmup_epochs < train.epochs,
            "below train.epochs where train.head_warmup_lr is set, because only later epochs can be the best",
        ),
        (
            "train.repeat_epoch",
            not (train.repeat_epoch == "whole" and train.row_sampling == "repeat_factor" and train.retrain_epochs),
            "cut where train.retrain_epochs is set, because all epochs have the same number of rows",
        ),
        (
            "augment.mixup",
            not (recipe.augment.mixup and synthetic.schedule == "pool"),
            "0 where synthetic.schedule is pool, because it would mix real with synthetic images",
        ),
        ("train.adam_eps", 0 < train.adam_eps < math.inf, "above 0"),
        ("evaluate.threshold", fixed is None or 0 < fixed < 1, "above 0 and below 1"),
        ("train.lr_floor", 0 <= train.lr_floor <= 1, "between 0 and 1"),
        ("train.ema", 0 <= train.ema < 1, "at least 0 and below 1"),
        ("train.swa_epochs", 0 <= train.swa_epochs <= train.epochs, "between 0 and train.epochs"),
        ("train.swa_epochs", not (train.swa_epochs and train.ema), "0 where train.ema is set, which averages as well"),
        (
            "train.swa_epochs",
            not (train.swa_epochs and train.retrain_epochs),
            "0 where train.retrain_epochs is set, because the head starts again",
        ),
        ("synthetic.warmup", 0 <= (synthetic.warmup or 0) <= train.epochs, "between 0 and train.epochs"),
        ("synthetic.pretrain_share", 0 < synthetic.pretrain_share < 1, "between 0 and 1"),
        ("model.dropout", 0 <= recipe.model.dropout < 1, "at least 0 and below 1"),
        ("model.decoder_dropout", 0 <= recipe.model.decoder_dropout < 1, "at least 0 and below 1"),
        ("model.graph_share", 0 < recipe.model.graph_share < 1, "between 0 and 1"),
        ("model.graph_self_loop", 0 < recipe.model.graph_self_loop < math.inf, "above 0"),
        ("model.embedding_std", 0 < recipe.model.embedding_std < math.inf, "above 0"),
        ("model.graph_dropout", 0 <= recipe.model.graph_dropout < 1, "at least 0 and below 1"),
        *(
            (f"augment.{name}", 0 <= getattr(recipe.augment, name) <= 1, "between 0 and 1")
            for name in ("geometry_probability", "intensity_probability", "clahe", "noise", "holes")
        ),
        ("augment.scale", 0 <= recipe.augment.scale < 1, "at least 0 and below 1"),
    ):
        if not holds:
            raise RecipeError(f"{path} is {attrgetter(path)(recipe)}; it must be {wanted}.")
