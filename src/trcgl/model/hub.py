"""Download models from the Hugging Face hub."""

import os
from pathlib import Path

from trcgl import __version__
from trcgl.core.errors import CheckpointError

PULLED = ("model.json", "model.safetensors")
"""Files of an exported folder that PyTorch needs."""


def pull(hub_id: str, *, revision: str | None = None) -> Path:
    """Download the model folder `OWNER/NAME` into the cache of the hub client; without network the cache is used.

    Raises:
        CheckpointError: the hub has no such model or cannot be reached, or the repository is no model of trcgl.
    """
    from huggingface_hub import snapshot_download

    try:
        place = snapshot_download(
            hub_id,
            revision=revision,
            allow_patterns=list(PULLED),
            endpoint=endpoint(),
            library_name="trcgl",
            library_version=__version__,
        )
    except Exception as error:  # the hub client has dozens of exception types for "no network" and "no such model"
        raise CheckpointError(
            f"{hub_id}: no such folder, and the hub does not give such a model ({first_line(error)}). Check the "
            "spelling and the network; for a private model, run `hf auth login`; or copy the model folder to this "
            "machine and give its path."
        ) from error
    if missing := [name for name in PULLED if not (Path(place) / name).is_file()]:
        raise CheckpointError(f"{hub_id}: {missing[0]} is not there. Give a model that `trcgl export --push` wrote.")
    return Path(place)


def endpoint() -> str | None:
    """Address of a mirror of the hub, from `HF_ENDPOINT`, which the hub client reads only once, at import."""
    return os.environ.get("HF_ENDPOINT")


def first_line(error: Exception) -> str:
    """The first line of an error message, without its full stop."""
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
