"""`load_model`: a trained model from a folder, or from the Hugging Face hub."""

import re
from pathlib import Path

import torch

from trcgl.model import folder
from trcgl.model.folder import LoadedModel
from trcgl.model.hub import pull

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def load_model(
    folder_or_hub_id: str | Path, *, revision: str | None = None, device: str | torch.device = "cpu"
) -> LoadedModel:
    """Open a trained model. Nothing is unpickled; a folder is read without network access.

        model = trcgl.load_model("run", device="cuda")
        model.predict("scan.dcm").scores                         # finding to probability, highest first

    Args:
        folder_or_hub_id: a run folder, a model folder, or, where no such folder exists, `OWNER/NAME` on the Hugging
            Face hub.
        revision: branch, tag or commit on the hub; None takes the main branch.
        device: device of the network, such as `cuda`.

    Returns:
        A `LoadedModel`. Its `predict` scores radiographs of any size: files, arrays or PIL images. Called directly, it
        maps images (B, H, W) uint8 of the model's size to probabilities (B, C).

    Raises:
        CheckpointError: the model does not exist, or one of its files is damaged.
    """
    place = Path(folder_or_hub_id)
    if not place.exists() and _HUB_ID.fullmatch(str(folder_or_hub_id)):
        place = pull(str(folder_or_hub_id), revision=revision)
    return folder.load_model(folder.model_folder(place), device=device)
