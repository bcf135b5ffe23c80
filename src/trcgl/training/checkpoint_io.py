"""Checkpoints that are whole or absent, and that are read without unpickling code."""

import errno
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from trcgl.core import storage
from trcgl.core.errors import CheckpointError


class WholeCheckpointIO(CheckpointIO):
    """Write aside, flush to disk, rename; read with `weights_only`, whatever the caller asks for.

    A process that is killed while it saves, or a disk that fills up, leaves the checkpoint that was there before.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save.

        Raises:
            DataError: the disk is full or the folder cannot be written to.
        """
        with storage.atomic(Path(path)) as aside, open(aside, "wb") as handle:
            try:
                torch.save(checkpoint, handle)
            except RuntimeError as error:  # what torch makes of a failed write
                raise OSError(errno.EIO, f"the checkpoint was not written whole: {error}") from error

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Load tensors and plain values.

        Raises:
            CheckpointError: the file is missing, damaged, or holds anything else.
        """
        try:
            checkpoint = torch.load(path, map_location=map_location or "cpu", weights_only=True)
            if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
                raise ValueError("it holds no state_dict")
            return checkpoint
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: no such checkpoint. Choose another --out and train anew.") from error
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
            reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
            raise CheckpointError(
                f"{path} is not a checkpoint that trcgl wrote, or it is damaged ({reason}). "
                "Choose another --out and train anew, or put the right file back."
            ) from error

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint if it is there."""
        Path(path).unlink(missing_ok=True)
