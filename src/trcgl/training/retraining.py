"""Classifier retraining: a second stage that trains a new head on the backbone of the first."""

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback

from trcgl.training.averaging import MovingAverage
from trcgl.training.classifier import Classifier


class HeadRestart(Callback):
    """What happens between the two stages of classifier retraining (cRT; Kang et al. 2020, section 4.1).

    The head begins anew: its weights, their momenta and their average. Where weights are averaged, the second stage
    takes the average of the first as its backbone, because that is the network that the first stage ends with. That the
    backbone then keeps its weights is the part of `Classifier`, that findings are drawn equally often that of the
    sampler, and that the learning rate begins anew that of the schedule.

    What differs from the original: it retrains a linear classifier. Here the whole head is retrained, with whatever
    modules it has, from the very weights that the first stage began with, and by the run's own loss and optimizer.

    It is done before the first step of the second stage, from nothing but what a checkpoint holds and the seed builds:
    done again after an interruption, it comes to the same.

    Args:
        average: of the weights, where they are averaged.
    """

    def __init__(self, average: MovingAverage | None) -> None:
        self._average = average

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Where a run is resumed between the stages: Lightning then skips the beginning of the epoch."""
        self._restart(trainer, pl_module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Where the second stage follows the first."""
        self._restart(trainer, pl_module)

    def _restart(self, trainer: lightning.Trainer, classifier: lightning.LightningModule) -> None:
        assert isinstance(classifier, Classifier)
        if trainer.global_step != classifier.retrain_step:
            return
        if self._average:
            self._average.give_to(classifier)
        classifier.restart_head()
        if self._average:
            self._average.begin_anew(classifier)
