"""Models on the Hugging Face hub: push an exported folder, pull one."""

import os
from collections.abc import Sequence
from pathlib import Path

from trcgl import __version__
from trcgl.core.errors import CheckpointError

PULLED = ("model.json", "model.safetensors")
"""What PyTorch needs of an exported folder."""


def pull(hub_id: str, *, revision: str | None = None) -> Path:
    """Fetch a model into the hub's cache, or find it there; without network the cached one is taken.

    Args:
        hub_id: `OWNER/NAME`.
        revision: branch, tag or commit; None takes the main branch.

    Returns:
        A model folder.

    Raises:
        CheckpointError: the hub has no such model or cannot be reached, or this is no model of ours.
    """
    from huggingface_hub import snapshot_download

    try:
        place = snapshot_download(
            hub_id,
            revision=revision,
            allow_patterns=list(PULLED),
            endpoint=_endpoint(),
            library_name="trcgl",
            library_version=__version__,
        )
    except Exception as error:  # the hub client has dozens of exception types for "no network" and "no such model"
        raise CheckpointError(
            f"{hub_id}: no such folder, and the hub does not give such a model ({_first_line(error)}). Check the "
            "spelling, the network, and for a private model that `hf auth login` was done; or copy the model folder to "
            "this machine and give its path."
        ) from error
    if missing := [name for name in PULLED if not (Path(place) / name).is_file()]:
        raise CheckpointError(f"{hub_id}: {missing[0]} is not there. Give a model that `trcgl export --push` wrote.")
    return Path(place)


def push(folder: Path, hub_id: str, files: Sequence[str], *, private: bool = True) -> str:
    """Upload files of an exported folder; nothing else in it leaves the machine, and nothing on the hub is deleted.

    Args:
        folder: written by `export`.
        hub_id: `OWNER/NAME`; made if it does not exist.
        files: names of the files in the folder.
        private: whether a repository that is made now is hidden from others.

    Returns:
        Address of the model.

    Raises:
        CheckpointError: the hub cannot be reached or refuses; the message says why.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=_endpoint(), library_name="trcgl", library_version=__version__)
    try:
        repository = api.create_repo(hub_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=hub_id,
            folder_path=folder,
            allow_patterns=list(files),
            commit_message=f"Model exported by trcgl {__version__}",
        )
    except Exception as error:  # the hub client has dozens of exception types for "no network" and "no permission"
        raise CheckpointError(
            f"{hub_id}: the hub does not take the model ({_first_line(error)}). Log in with `hf auth login`, check the "
            f"network and that you may write to {hub_id}, and give the same command again; {folder} is complete."
        ) from error
    return str(repository)


def _endpoint() -> str | None:
    """Another hub, such as a hospital's mirror; the client itself reads the variable only when it is imported."""
    return os.environ.get("HF_ENDPOINT")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
