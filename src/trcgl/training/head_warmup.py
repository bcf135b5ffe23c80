"""The warm-up of the head as a stage of its own, before the backbone is trained."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from trcgl.core.recipe import TrainRecipe


class HeadWarmup(Callback):
    """Weight decay of the warm-up of the head, and a new optimizer after it.

    `rate_factor` has the learning rate of this stage and `MovingAverage` starts after it. The new optimizer depends on
    the step alone, so that the transition has the same result when it is repeated after an interruption.

    Args:
        settings: the recipe's.
        steps: optimizer steps of the warm-up.
    """

    def __init__(self, settings: TrainRecipe, steps: int) -> None:
        self._settings, self._steps = settings, steps

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the weight decay of the stage; forget the moments where the next stage begins."""
        settings, of_warmup = self._settings, self._settings.head_warmup_decay
        warming = trainer.global_step < self._steps and of_warmup is not None
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                if group["name"] == "head, decayed":
                    group["weight_decay"] = of_warmup if warming else settings.weight_decay
            if trainer.global_step == self._steps:
                optimizer.state.clear()

    on_train_start = on_train_epoch_start  # Lightning skips the start of an epoch when it resumes between the stages
