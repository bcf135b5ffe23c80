"""Losses of the training stages of a generator; all randomness is a function of the seed and the batch number."""

from functools import cached_property
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from trcgl.core.generator_recipe import UNCHANGED, GeneratorRecipe
from trcgl.core.randomness import derive_seed
from trcgl.core.randomness import generator as randomness
from trcgl.generate import diffusion
from trcgl.generate.autoencoder import normalized
from trcgl.generate.fitting import warmed_up
from trcgl.generate.latent_cache import LatentCache, LatentRows, encode_missing
from trcgl.generate.pipeline import Generator
from trcgl.generate.samples import sample_grid
from trcgl.generate.training_rows import loader, most_sampled, sampler
from trcgl.model.tensors import at_size, to_unit
from trcgl.training.augment import augment, sample_parameters
from trcgl.training.batches import SplitRows
from trcgl.training.clipping import Clipping
from trcgl.training.trainer import LOG_EVERY, is_fused


class Shared:
    """A value that copies of a module share and that is no part of its state.

    The moving average copies trained parameters only, and checkpoints leave everything else out.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> "Shared":
        return self


class Stage(lightning.LightningModule):
    """Common part of the stages: rows, learning rates, logs, and an error if the loss is not finite.

    `name` is part of every random seed. Parameters of `trained` that require a gradient are trained; `slowed` are
    modules with a lower learning rate, each with its factor of `rate`.
    """

    def __init__(
        self,
        generator: Generator,
        recipe: GeneratorRecipe,
        rows: SplitRows,
        *,
        name: str,
        steps: int,
        rate: float,
        trained: tuple[nn.Module, ...],
        slowed: tuple[tuple[nn.Module, float], ...] = (),
    ) -> None:
        super().__init__()
        self.recipe, self.rows, self.name, self.steps, self.rate = recipe, rows, name, steps, rate
        self._generator = Shared(generator)
        self.parameters_of_stage = nn.ParameterList(
            [weight for module in trained for weight in module.parameters() if weight.requires_grad]
        )
        self._factors = {id(weight): factor for module, factor in slowed for weight in module.parameters()}
        self._gradient_norm = torch.tensor(0.0)
        self._last: tuple[Tensor, Tensor] | None = None  # loss and rows of the latest batch, -1: padding
        advice = f"Train the stage {name} again into another --out with a lower --fit.lr, or --fit.precision 32-true."
        self._clip = Clipping(recipe.fit, rows.image_ids, advice)

    @property
    def generator(self) -> Generator:
        """The generator in training."""
        return self._generator.value

    def setup(self, stage: str) -> None:
        """Bring all parts of the generator to the device."""
        self.generator.to(self.device)

    def train_dataloader(self) -> Any:
        """Batches of training rows."""
        most = most_sampled(self.generator.space)
        order = sampler(self.rows.labels, most, self.recipe.fit, derive_seed(self.recipe.seed, self.name))
        processes = (self.trainer.global_rank, self.trainer.world_size)
        fit = self.recipe.fit
        return loader(self.shown, order, self.steps, fit.batch_size, *processes, workers=fit.workers)

    @property
    def shown(self) -> SplitRows | LatentRows:
        """The rows as the loader reads them."""
        return self.rows

    def configure_optimizers(self) -> Any:
        """AdamW; the rate warms up, stays, and falls to 0 in the second half."""
        by_factor: dict[float, list[nn.Parameter]] = {}
        for weight in self.parameters():
            by_factor.setdefault(self._factors.get(id(weight), 1.0), []).append(weight)
        groups = [{"params": weights, "lr": self.rate * factor} for factor, weights in by_factor.items()]
        fused = self.device.type == "cpu" or is_fused(self.recipe.fit, self.device)
        optimizer = torch.optim.AdamW(groups, lr=self.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=fused)
        warmup = min(self.recipe.fit.warmup_steps, self.steps // 4)
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmed_up(step, warmup, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip to the recipe's norm; a loss or gradient that is not finite stops before it moves a weight."""
        assert self._last is not None
        self._gradient_norm = self._clip(self, optimizer, [self._last])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save no checkpoint after a loss or gradient that is not finite."""
        self._clip.check()

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Log the last step, then set the learning rate of the next step."""
        if self.global_step % LOG_EVERY == 0 and self._last is not None:
            self._clip.check()
            loss = self.trainer.strategy.reduce(self._last[0], reduce_op="mean")
            values = {"loss": float(loss), "gradient_norm": float(self._gradient_norm)}
            for logger in self.loggers:
                logger.log_metrics({**values, "lr": scheduler.optimizer.param_groups[0]["lr"]}, step=self.global_step)
        scheduler.step()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move what the network reads. Prompts are written on the CPU; reading labels back would wait for a GPU."""
        if not isinstance(batch, dict):  # of `val_dataloader`
            return batch
        read = {name: batch[name].to(device, non_blocking=True) for name in ("image", "latent") if name in batch}
        return {**batch, **read}

    def images(self, batch: dict[str, Any]) -> Float[Tensor, "batch 1 height width"]:
        """Augmented images of a batch at the generator's size, in [-1, 1]."""
        image = to_unit(at_size(batch["image"], self.recipe.image_size))
        if self.recipe.augment != UNCHANGED:
            seed = derive_seed(self.recipe.seed, self.name)
            parameters = sample_parameters(self.recipe.augment, batch["of"], seed, batch["number"])
            image = augment(image, parameters.take(batch["slot"], image.device))
        return image * 2 - 1

    def mean(self, each: Float[Tensor, " batch"], batch: dict[str, Any]) -> Tensor:
        """Mean over the real rows of the batch on all processes; also stores the loss for the log."""
        real = batch["real"].to(each)
        count = real.sum()
        if self.trainer.world_size > 1:  # DDP averages gradients over processes
            count = self.trainer.strategy.reduce(count, reduce_op="mean")
        loss = (each * real).sum() / count
        self._last = (loss.detach(), torch.where(batch["real"], batch["row"], -1))
        return loss


class Diffusion(Stage):
    """Train the network or the context tokens to denoise latents of labeled radiographs."""

    grids: Path | None = None
    """Folder of the grids of samples; None samples none."""
    cache: LatentCache | None = None
    """Latents of the rows; None encodes the images of every batch."""

    @property
    def shown(self) -> SplitRows | LatentRows:
        """The rows with their cached latents, if there is a cache."""
        return LatentRows(self.rows, self.cache) if self.cache else self.rows

    def on_fit_start(self) -> None:
        """Encode the images that the cache lacks, shared among the processes."""
        if self.cache:
            encode_missing(self.cache, self.generator.vae, self.rows, self.global_rank, self.trainer.world_size)
            self.trainer.strategy.barrier()

    def _latents(self, batch: dict[str, Any]) -> diffusion.Latents:
        if not self.cache:
            return self.generator.to_latents(self.images(batch)).float()
        mean, spread = batch["latent"].float().unbind(1)
        return normalized(self.generator.vae, mean + spread * torch.randn(mean.shape, device=mean.device))

    @cached_property
    def _shares(self) -> Float[Tensor, " levels"]:
        settings = self.recipe.diffusion
        levels = self.generator.scheduler.alphas_cumprod
        return diffusion.shares_of_levels(levels, settings.log_snr_mean, settings.log_snr_std)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Squared error of the prediction, weighted by min-SNR."""
        number, whole, slot = batch["number"], batch["of"], batch["slot"].cpu()
        seed = derive_seed(self.recipe.seed, self.name, number)
        torch.manual_seed(derive_seed(seed, self.global_rank))
        with torch.no_grad():
            # Noise levels take the precision of the latents, and bfloat16 has too few numbers for a thousand of them.
            latent = self._latents(batch)
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn((whole, *latent.shape[1:]), generator=random)[slot].to(latent)
        levels = self.generator.scheduler.alphas_cumprod
        step = diffusion.noise_levels(self._shares, whole, random)[slot]
        alpha_bar = levels[step].to(latent)
        hidden = self._hidden(batch, randomness(seed, "words"))
        predicted = self.generator.unet(
            diffusion.noised(latent, noise, alpha_bar), step.to(latent.device), encoder_hidden_states=hidden
        ).sample
        predicts = self.generator.scheduler.config["prediction_type"]
        target = diffusion.target(latent, noise, alpha_bar, predicts)
        error = (predicted.float() - target).square().mean((1, 2, 3))
        weight = diffusion.min_snr_weight(alpha_bar, self.recipe.diffusion.min_snr, predicts)
        return self.mean(error * weight, batch)

    def val_dataloader(self) -> list[int]:
        """A single batch, for which `validation_step` samples a grid."""
        return [0]

    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Sample the grid, with averaged weights if they are averaged."""
        if self.grids and self.trainer.is_global_zero:
            path = self.grids / f"{self.name}-{self.global_step:06d}.png"
            sample_grid(self.generator, path, self.global_step, self.loggers)

    def _hidden(self, batch: dict[str, Any], random: np.random.Generator) -> Float[Tensor, "batch tokens width"]:
        """Encoded prompts; some name only a part of the findings, some are empty.

        Tail findings are always named: their images are shown so often that prompts without them would come to imply
        them.
        """
        settings, space = self.recipe.diffusion, self.generator.space
        whole, slots = batch["of"], batch["slot"].cpu().numpy()
        chances = random.random((whole, 2 + len(space.findings)))[slots]
        tail = np.isin(space.findings, space.in_group("tail"))
        orders = random.integers(2**32, size=whole)[slots]
        prompts = []
        wording = self.generator.prompts
        labels, rows = batch["label"].cpu().numpy(), batch["row"].tolist()
        for label, row, chance, order in zip(labels, rows, chances, orders, strict=True):
            present = np.flatnonzero(label == 1)
            if len(present) > 1 and chance[0] < settings.label_dropout:
                kept = (chance[2:][present] < 0.5) | tail[present]
                kept[chance[2:][present].argmin()] = True
                present = present[kept]
            shuffled = np.random.default_rng(order)
            findings = [space.findings[place] for place in present]
            prompts.append(wording.prompt(findings, self.rows.views[row], shuffled))
        hidden = self.generator.encode(prompts)
        empty = torch.from_numpy(chances[:, 1] < settings.caption_dropout).to(hidden.device)
        return torch.where(empty[:, None, None], self.generator.encode_empty(), hidden)


class Autoencoder(Stage):
    """Train a variational autoencoder to reconstruct images (Rombach et al. 2022, without a discriminator).

    A feature loss compares feature maps of a classifier of radiographs; it keeps details of findings that a pixel error
    would smooth away. `features` maps images (B, 1, H, W) in [0, 1] to a feature map; None trains on pixels alone.
    """

    def __init__(self, *inputs: Any, features: nn.Module | None, **settings: Any) -> None:
        super().__init__(*inputs, **settings)
        self._features = Shared(features.eval().requires_grad_(False) if features else None)

    def setup(self, stage: str) -> None:
        """Bring all parts of the generator to the device."""
        super().setup(stage)
        if self._features.value:
            self._features.value.to(self.device)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Absolute error of the pixels, KL divergence of the latents from N(0, I), and the feature loss."""
        settings, vae = self.recipe.autoencoder, self.generator.vae
        torch.manual_seed(derive_seed(self.recipe.seed, self.name, batch["number"], self.global_rank))
        image = self.images(batch)
        seen = image.expand(-1, vae.config["in_channels"], -1, -1)
        posterior = vae.encode(seen).latent_dist
        decoded = vae.decode(posterior.sample()).sample.mean(1, keepdim=True)
        each = (decoded - image).abs().mean((1, 2, 3)) + settings.kl_weight * posterior.kl() / image[0].numel()
        if network := self._features.value:
            expected, found = network((image + 1) / 2), network((decoded.clamp(-1, 1) + 1) / 2)
            each = each + settings.feature_weight * (found - expected).abs().mean((1, 2, 3))
        return self.mean(each, batch)
