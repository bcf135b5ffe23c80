"""The training step: loss, optimizer and schedule. All randomness is a function of the seed and the batch."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from torch import Tensor

from trcgl.core.errors import Diverged
from trcgl.core.randomness import derive_seed
from trcgl.core.recipe import Recipe
from trcgl.dataset.labels import LabelSpace
from trcgl.model.backbone import freeze_stages
from trcgl.model.heads import HeadOutput
from trcgl.model.heads.experts import own_findings
from trcgl.model.trcgl_net import TrcglNet
from trcgl.training.batches import SplitRows, known_labels
from trcgl.training.clipping import Clipping
from trcgl.training.losses import LOSSES
from trcgl.training.losses.base import elements, masked_mean, smoothed
from trcgl.training.optimizer import build_optimizer, rate_factor
from trcgl.training.sampling import retrained_from, synthetic_warmup
from trcgl.training.trainer import LOG_EVERY, is_fused
from trcgl.training.validation import SELECTED, validation_metrics


class Classifier(lightning.LightningModule):
    """A network with its loss and optimizer.

    `train` are the real rows; `image_ids` names them, then the synthetic rows. The loss counts the labels of `counted`
    rows, by default the real rows.
    `steps` is the number of optimizer steps of the whole run; `counts` has the numbers of real and synthetic rows of
    each finding, which are logged at the start.
    """

    def __init__(
        self,
        network: TrcglNet,
        recipe: Recipe,
        space: LabelSpace,
        train: SplitRows,
        val: SplitRows,
        steps: int,
        image_ids: Sequence[str],
        counts: Mapping[str, Mapping[str, Any]] | None = None,
        counted: SplitRows | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        if recipe.train.frozen_stages is not None:
            freeze_stages(network.backbone, recipe.train.frozen_stages)
        if recipe.train.frozen_backbone:  # before the optimizer is built
            network.backbone.requires_grad_(False)
            network.norm.requires_grad_(False)
        self.recipe, self.space = recipe, space
        initial = [module.state_dict() for module in (network.head_norm, network.head)]
        self._initial_head = copy.deepcopy(initial) if recipe.train.retrain_epochs else []
        self._retrain = retrained_from(recipe.train)
        self.retrain_step = steps // recipe.train.epochs * self._retrain if recipe.train.retrain_epochs else 0
        self._val_rows, self._steps, self._image_ids, self._counts = val, steps, image_ids, counts or {}
        self._real_rows = len(train)
        labels = (counted or train).labels
        positives, known = torch.from_numpy((labels == 1).sum(0)), torch.from_numpy((~np.isnan(labels)).sum(0))
        self.loss = LOSSES[recipe.loss.name](recipe.loss.settings, positives, known)
        self.validated: dict[str, float] = {}
        self._since_step: list[tuple[Tensor, Tensor]] = []  # loss and rows (-1: padding) of each batch of a step
        self._clip = Clipping(
            recipe.train,
            image_ids,
            "Train again into another --out with a lower --train.backbone-lr and --train.head-lr, a smaller "
            "--train.clip-gradient, or --train.precision 32-true.",
        )
        self._scored: list[tuple[Tensor, Tensor]] = []  # logits of val batches and their rows, -1 for padding

    def configure_optimizers(self) -> Any:
        """AdamW and its learning-rate schedule, updated every step."""
        optimizer = build_optimizer(self.network, self.recipe.train, fused=is_fused(self.recipe.train, self.device))
        factor = rate_factor(self.recipe.train, self._steps, self.retrain_step)
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def restart_head(self) -> None:
        """Restore the initial weights of the head and remove its optimizer state."""
        for module, initial in zip((self.network.head_norm, self.network.head), self._initial_head, strict=True):
            module.load_state_dict(initial)
            for optimizer in self.trainer.optimizers:
                for parameter in module.parameters():
                    optimizer.state.pop(parameter, None)

    def on_train_start(self) -> None:
        """Freeze or unfreeze the backbone, also when resuming within an epoch; log the counts of a new run."""
        self.on_train_epoch_start()
        if self._counts and not self.global_step:
            counts = ((finding, kind, n) for finding, kinds in self._counts.items() for kind, n in kinds.items())
            self._record({f"rows/{finding}/{kind}": n for finding, kind, n in counts if n is not None})

    def on_train_epoch_start(self) -> None:
        """Freeze or unfreeze the backbone."""
        frozen = self.backbone_is_frozen
        for module in (self.network.backbone, self.network.norm):
            module.train(not frozen or self.recipe.train.frozen_mode == "train")
            module.requires_grad_(not frozen)
        if self.recipe.train.frozen_stages is not None:
            freeze_stages(self.network.backbone, self.recipe.train.frozen_stages)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Masked mean of the loss over the known labels of the batch, over all processes."""
        torch.manual_seed(derive_seed(self.recipe.seed, "forward", batch["number"], self.global_rank))
        target, known = known_labels(batch["label"], batch["real"])
        target = smoothed(target, self.recipe.loss.label_smoothing)
        weight = batch["real"].float()
        weight = torch.where(batch["row"] < self._real_rows, weight, self._synthetic_weight * weight)
        self.loss.progress = self.global_step / self._steps
        output = self._output(batch)
        loss = self._objective(output, target, known, batch["real"], weight)
        self._since_step.append((loss.detach(), torch.where(batch["real"], batch["row"], -1)))
        return loss

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip the gradient; a loss or gradient that is not finite stops the run before the weights change."""
        self.gradient_norm = self._clip(self, optimizer, self._since_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save no checkpoint after a loss or gradient that is not finite."""
        self._clip.check()

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Log the finished optimizer step, then set the learning rates of the next."""
        if self.global_step % LOG_EVERY == 0:
            self._clip.check()
            loss = self._over_processes(torch.stack([batch_loss for batch_loss, _ in self._since_step]).mean())
            values = {"train/loss": float(loss), "train/gradient_norm": float(self.gradient_norm)}
            values |= {f"lr/{group['name'].split(',')[0]}": group["lr"] for group in scheduler.optimizer.param_groups}
            values |= {f"gate/{name}": gate for name, gate in self.network.head.gates().items()}
            self._record(values)
        self._since_step.clear()
        scheduler.step()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Score a val batch."""
        logits = self._output(batch).logits.float()
        self._scored.append((logits, torch.where(batch["real"], batch["row"], -1)))

    def on_validation_epoch_end(self) -> None:
        """Compute the metrics of the whole val split; every process has the same result."""
        logits, rows = (torch.as_tensor(self.all_gather(torch.cat(parts))) for parts in zip(*self._scored, strict=True))
        self._scored.clear()
        logits, rows = logits.reshape(-1, len(self.space.findings)), rows.reshape(-1)
        score = torch.empty(len(self._val_rows), logits.shape[1])
        score[rows[rows >= 0].cpu()] = logits[rows >= 0].cpu()
        if not score.isfinite().all():
            raise Diverged(
                f"training diverged in epoch {self.current_epoch + 1}: a score on val is not finite. Train again into "
                "another --out with a lower --train.backbone-lr and --train.head-lr, or --train.precision 32-true."
            )
        val = self._val_rows
        self.validated = validation_metrics(
            val.labels, score.numpy(), val.weights, self.space, self.recipe.train.absent_findings
        )
        self.log(SELECTED, self.validated[SELECTED], prog_bar=True, logger=False, rank_zero_only=True)
        self._record(self.validated)

    def _output(self, batch: dict[str, Any]) -> HeadOutput:
        """The output for a batch of images, or of features of a frozen backbone."""
        if self.recipe.train.frozen_backbone:
            return self.network.from_backbone(batch["image"])
        return self.network(batch["image"])

    def _record(self, values: dict[str, Any]) -> None:
        for logger in self.loggers:
            logger.log_metrics({"epoch": self.current_epoch + 1, **values}, step=self.global_step)

    def _objective(self, output: HeadOutput, target: Tensor, known: Tensor, real: Tensor, weight: Tensor) -> Tensor:
        """Masked mean of the loss; for experts, the mean over all findings and over their own."""

        def mean(logits: Tensor, among: Tensor | None = None) -> Tensor:
            elementwise, counted = elements(self.loss, logits, target, known, real)
            counted = counted if among is None else counted & among
            # DDP averages gradients over processes, so each process divides by the mean of their totals.
            divisor = real if self.recipe.loss.reduction == "sum" else counted * weight[:, None]
            total = self._over_processes(divisor.sum().float())
            return masked_mean(elementwise, counted, weight, total)

        if output.experts is None:
            return mean(output.logits)
        own = own_findings(self.space).to(known.device)
        parts = [mean(logits) + mean(logits, among) for logits, among in zip(output.experts, own, strict=True)]
        return torch.stack(parts).mean() / 2

    def _over_processes(self, value: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(value, reduce_op="mean") if self.trainer.world_size > 1 else value

    @property
    def _synthetic_weight(self) -> float:
        pooled = self.recipe.synthetic.schedule == "pool"
        return 0.0 if pooled and self.current_epoch < synthetic_warmup(self.recipe) else self.recipe.synthetic.weight

    @property
    def backbone_is_frozen(self) -> bool:
        """Whether this epoch trains the head alone."""
        if self.recipe.train.frozen_backbone:
            return True
        return not self.recipe.train.head_warmup_epochs <= self.current_epoch < self._retrain
