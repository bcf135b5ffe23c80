"""Classifier retraining: a second stage that trains a new head on the backbone of the first stage."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from trcgl.training.averaging import MovingAverage
from trcgl.training.classifier import Classifier


class HeadRestart(Callback):
    """Transition between the two stages of classifier retraining (cRT; Kang et al. 2020, section 4.1).

    The head starts again: weights, momenta and average. With averaged weights, the second stage takes the average of
    the first stage as its backbone. `Classifier` freezes the backbone, `row_sampler` shows findings equally often,
    and `schedule` starts the learning rate again.

    Differences from the original, which retrains a linear classifier: the whole head is retrained with all its modules,
    from the initial weights of the first stage, with the run's own loss and optimizer; and the frozen backbone is in
    evaluation mode unless `train.frozen_mode` is `train`, as in the authors' code.

    The transition happens before the first step of the second stage and depends on the checkpoint and the seed alone,
    so that it has the same result when it is repeated after an interruption.
    """

    def __init__(self, average: MovingAverage | None) -> None:
        self._average = average

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restart the head where the second stage follows the first."""
        assert isinstance(pl_module, Classifier)
        if trainer.global_step != pl_module.retrain_step:
            return
        if self._average:
            self._average.copy_to(pl_module)
        pl_module.restart_head()
        if self._average:
            self._average.restart(pl_module)

    on_train_start = on_train_epoch_start  # Lightning skips the start of an epoch when it resumes between the stages
