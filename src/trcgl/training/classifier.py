"""The training step: loss, optimizer, schedule; all randomness is a function of the seed and the batch."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from jaxtyping import Float, Int
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
from trcgl.training.losses import LOSSES
from trcgl.training.losses.base import elements, masked_mean, smoothed
from trcgl.training.optimizer import build_optimizer, schedule
from trcgl.training.sampling import retrained_from
from trcgl.training.validation import SELECTED, validation_metrics

LOG_EVERY = 10
"""Optimizer steps between two lines of the log."""
_NAMED = 8  # images named when a loss is not finite


class Classifier(lightning.LightningModule):
    """A network with its loss and optimizer.

    Args:
        network: to be trained.
        recipe: of the run.
        space: label space of the outputs.
        train: real rows of train; their labels give the loss its counts.
        val: rows of val, in the order of the val loader.
        steps: optimizer steps of the whole run, for the schedule.
        image_ids: of the rows that batches show, for the message when training diverges; drawn rows are numbered after
            the real ones.
        counts: findings with their numbers of real and drawn rows, logged at the start.
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
    ) -> None:
        super().__init__()
        self.network = network
        if recipe.train.frozen_stages is not None:
            freeze_stages(network.backbone, recipe.train.frozen_stages)
        self.recipe, self.space = recipe, space
        self._initial_head = copy.deepcopy(network.head.state_dict()) if recipe.train.retrain_epochs else {}
        self._retrain = retrained_from(recipe.train)
        self.retrain_step = steps // recipe.train.epochs * self._retrain if recipe.train.retrain_epochs else 0
        self._val_rows, self._steps, self._image_ids, self._counts = val, steps, image_ids, counts or {}
        self._real_rows = len(train)
        positives = torch.from_numpy((train.labels == 1).sum(0))
        known = torch.from_numpy((~np.isnan(train.labels)).sum(0))
        self.loss = LOSSES[recipe.loss.name](recipe.loss.settings, positives, known)
        self.validated: dict[str, float] = {}
        self._since_step: list[tuple[Tensor, Tensor]] = []  # loss and rows of each batch since the last step
        self._scored: list[tuple[Tensor, Tensor]] = []

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule, stepped with it."""
        optimizer = build_optimizer(self.network, self.recipe.train)
        warmup = self.recipe.train.warmup_steps
        rate = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: schedule(step, warmup, self._steps, self.retrain_step)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def restart_head(self) -> None:
        """Bring the head back to the weights it was built with, and let the optimizer forget how it moved."""
        self.network.head.load_state_dict(self._initial_head)
        for optimizer in self.trainer.optimizers:
            for parameter in self.network.head.parameters():
                optimizer.state.pop(parameter, None)

    def on_train_start(self) -> None:
        """Freeze or thaw, also when an epoch is resumed in its middle; say what a fresh run learns from."""
        self._freeze()
        if self._counts and not self.global_step:
            rows = ((finding, kind, number) for finding, one in self._counts.items() for kind, number in one.items())
            self._record({f"rows/{finding}/{kind}": number for finding, kind, number in rows if number is not None})

    def on_train_epoch_start(self) -> None:
        """Freeze or thaw."""
        self._freeze()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Masked mean of the loss over the known labels of the batch, on all processes together."""
        torch.manual_seed(derive_seed(self.recipe.seed, "forward", batch["number"], self.global_rank))
        target, known = known_labels(batch["label"], batch["real"])
        target = smoothed(target, self.recipe.loss.label_smoothing)
        weight = batch["real"].float()
        weight = torch.where(batch["row"] < self._real_rows, weight, self.recipe.synthetic.weight * weight)
        self.loss.progress = self.global_step / self._steps
        output = self.network(batch["image"])
        loss = self._objective(output, target, known, batch["real"], weight)
        self._since_step.append((loss.detach(), batch["row"][batch["real"]]))
        return loss

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip to the recipe's norm; a loss or gradient that is not finite stops the run before it moves a weight."""
        clip = self.recipe.train.clip_gradient or math.inf
        self.gradient_norm = torch.nn.utils.clip_grad_norm_(self.parameters(), clip)
        losses = torch.stack([loss for loss, _ in self._since_step])
        finite = bool(losses.isfinite().all())
        if self.recipe.train.precision != "16-mixed":  # whose scaler expects, and skips, infinite gradients
            finite = finite and bool(self.gradient_norm.isfinite())
        if not self.trainer.strategy.reduce_boolean_decision(finite, all=True):
            self._diverged(float(losses.mean()))

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Log the optimizer step that was just made, then set the rates of the next one."""
        if self.global_step % LOG_EVERY == 0:
            loss = self._over_processes(torch.stack([one for one, _ in self._since_step]).mean())
            values = {"train/loss": float(loss), "train/gradient_norm": float(self.gradient_norm)}
            values |= {f"lr/{one['name'].split(',')[0]}": one["lr"] for one in scheduler.optimizer.param_groups}
            values |= {f"gate/{name}": gate for name, gate in self.network.head.gates().items()}
            self._record(values)
        self._since_step.clear()
        scheduler.step()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Score a batch of val."""
        logits = self.network(batch["image"]).logits.float()
        row = torch.where(batch["real"], batch["row"], -1)
        self._scored.append((logits, row))

    def on_validation_epoch_end(self) -> None:
        """Judge val as a whole, the same on every process."""
        logits = self._gathered([one for one, _ in self._scored]).reshape(-1, len(self.space.findings))
        rows = self._gathered([one for _, one in self._scored]).reshape(-1)
        self._scored.clear()
        score = self._in_order(logits[rows >= 0], rows[rows >= 0])
        if not np.isfinite(score).all():
            raise Diverged(
                f"training diverged in epoch {self.current_epoch + 1}: a score on val is not finite. Train again into "
                "another --out with a lower --train.backbone-lr and --train.head-lr, or --train.precision 32-true."
            )
        val = self._val_rows
        self.validated = validation_metrics(val.labels, score, val.weights, self.space)
        self.log(SELECTED, self.validated[SELECTED], prog_bar=True, logger=False, rank_zero_only=True)
        self._record(self.validated)

    def _gathered(self, parts: list[Tensor]) -> Tensor:
        gathered = self.all_gather(torch.cat(parts))
        assert isinstance(gathered, Tensor)
        return gathered

    def _in_order(
        self, logits: Float[Tensor, "rows findings"], rows: Int[Tensor, " rows"]
    ) -> Float[np.ndarray, "rows findings"]:
        ordered = torch.empty_like(logits)
        ordered[rows] = logits
        return ordered.cpu().numpy()

    def _record(self, values: dict[str, Any]) -> None:
        for logger in self.loggers:
            logger.log_metrics({"epoch": self.current_epoch + 1, **values}, step=self.global_step)

    def _objective(self, output: HeadOutput, target: Tensor, known: Tensor, real: Tensor, weight: Tensor) -> Tensor:
        """Masked mean of the loss; for each of several experts, over all findings and over its own."""

        def mean(logits: Tensor, among: Tensor | None = None) -> Tensor:
            elementwise, counted = elements(self.loss, logits, target, known, real)
            counted = counted if among is None else counted & among
            return masked_mean(elementwise, counted, weight, self._denominator(counted, weight))

        if output.experts is None:
            return mean(output.logits)
        own = own_findings(self.space).to(known.device)
        parts = [mean(one) + mean(one, among) for one, among in zip(output.experts, own, strict=True)]
        return torch.stack(parts).mean() / 2

    def _denominator(self, known: Tensor, weight: Tensor) -> Tensor:
        # DDP averages gradients over processes, so that each divides by the mean of their weights.
        return self._over_processes((known * weight[:, None]).sum())

    def _over_processes(self, value: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(value, reduce_op="mean") if self.trainer.world_size > 1 else value

    @property
    def backbone_rests(self) -> bool:
        """In this epoch only the head learns."""
        return not self.recipe.train.head_warmup_epochs <= self.current_epoch < self._retrain

    def _freeze(self) -> None:
        frozen = self.backbone_rests
        for module in (self.network.backbone, self.network.norm):
            module.train(not frozen)  # a frozen backbone also keeps its running statistics
            module.requires_grad_(not frozen)
        if self.recipe.train.frozen_stages is not None:
            freeze_stages(self.network.backbone, self.recipe.train.frozen_stages)

    def _diverged(self, loss: float) -> None:
        rows = torch.cat([rows for _, rows in self._since_step]).tolist()
        names = [self._image_ids[row] for row in rows[:_NAMED]]
        more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
        raise Diverged(
            f"training diverged after step {self.global_step} (epoch {self.current_epoch + 1}): the loss is {loss:.4g} "
            f"and the gradient norm {float(self.gradient_norm):.4g}, on the images {', '.join(names)}{more}. "
            "Nothing of this step was saved. Train again into another --out with a lower --train.backbone-lr and "
            "--train.head-lr, a smaller --train.clip-gradient, or --train.precision 32-true."
        )
