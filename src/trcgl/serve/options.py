"""The settings of `trcgl serve`."""

from dataclasses import dataclass
from pathlib import Path

from trcgl.core.errors import RecipeError

MIB = 2**20


@dataclass(frozen=True)
class ServeOptions:
    """The address of the server and the limits of uploads."""

    host: str = "127.0.0.1"
    """Address to listen on. Any address but a loopback address needs a token."""
    port: int = 8000
    """Port to listen on; 0 chooses a free port and prints it."""
    token_file: Path | None = None
    """File whose only line is the token that clients must send. Or set the environment variable TRCGL_TOKEN."""
    names: tuple[str, ...] = ()
    """Further host names of this server, for instance behind a proxy."""
    max_mib: int = 64
    """Largest upload, in MiB."""
    max_megapixels: int = 50
    """Largest radiograph, in millions of pixels; checked before decoding."""
    seconds: float = 20.0
    """Longest time for decoding one file, in seconds."""
    workers: int = 0
    """Number of decoder processes; 0 starts one per CPU."""
    batch_size: int = 16
    """Largest number of radiographs that are scored together."""
    queue: int = 128
    """Largest number of uploads that wait for an answer; further uploads get status 503."""
    upload_seconds: float = 60.0
    """Longest time for one upload, in seconds; a client that sends nothing is dropped after a sixth of it."""

    def __post_init__(self) -> None:
        for name in ("max_mib", "max_megapixels", "seconds", "batch_size", "queue", "upload_seconds"):
            if getattr(self, name) <= 0:
                raise RecipeError(f"--{name.replace('_', '-')} {getattr(self, name)}: give a number above 0.")
        if not 0 <= self.port <= 65535 or self.workers < 0:
            raise RecipeError("--port lies between 0 and 65535, and --workers is 0 or more.")
