"""Upload exported folders to the Hugging Face hub."""

from collections.abc import Sequence
from pathlib import Path

from trcgl import __version__
from trcgl.core.errors import CheckpointError
from trcgl.model.hub import endpoint, first_line


def push(folder: Path, hub_id: str, files: Sequence[str], *, private: bool = True) -> str:
    """Upload files of an exported folder to `OWNER/NAME`, which is created if it does not exist; return its address.

    No other file leaves the machine, and nothing on the hub is deleted.

    Raises:
        CheckpointError: the hub cannot be reached or refuses the upload.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint(), library_name="trcgl", library_version=__version__)
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
            f"{hub_id}: the hub does not take the model ({first_line(error)}). Log in with `hf auth login`, check the "
            f"network and that you may write to {hub_id}, and run the same command again; {folder} is complete."
        ) from error
    return str(repository)
