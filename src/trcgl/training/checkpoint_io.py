"""Checkpoints that are written atomically and read without unpickling code."""

import errno
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from trcgl.core import storage
from trcgl.core.errors import CheckpointError


class WholeCheckpointIO(CheckpointIO):
    """Write to a temporary file, flush and rename; always read with `weights_only`.

    If the process is killed while it saves, or the disk is full, the previous checkpoint stays.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint."""
        with storage.atomic(Path(path)) as aside, open(aside, "wb") as handle:
            try:
                torch.save(checkpoint, handle)
            except RuntimeError as error:  # torch replaces the error of a failed write by its own
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise OSError(errno.EIO, f"the checkpoint is incomplete: {error}") from error

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Load a checkpoint of tensors and plain values.

        Raises:
            CheckpointError: the file is missing or damaged, or has other content.
        """
        try:
            checkpoint = torch.load(path, map_location=map_location or "cpu", weights_only=True)
            if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
                raise ValueError("it has no state_dict")
            return checkpoint
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: no such checkpoint. Choose another --out and train again.") from error
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
            reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
            raise CheckpointError(
                f"{path} is not a checkpoint that trcgl wrote, or it is damaged ({reason}). "
                "Choose another --out and train again, or restore the file."
            ) from error

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint if it exists."""
        Path(path).unlink(missing_ok=True)
