"""The settings of `trcgl serve`."""

from dataclasses import dataclass
from pathlib import Path

from trcgl.core.errors import RecipeError

MIB = 2**20


@dataclass(frozen=True)
class ServeOptions:
    """Where the server listens, and what it accepts."""

    host: str = "127.0.0.1"
    """Address to listen on. Any but a loopback address needs a token."""
    port: int = 8000
    """Port to listen on; 0 takes a free one and says which."""
    token_file: Path | None = None
    """File whose only line is the token that clients have to send; or set TRCGL_TOKEN."""
    names: tuple[str, ...] = ()
    """Further host names that clients call this server by, for instance behind a proxy."""
    max_mib: int = 64
    """Largest upload, in MiB."""
    max_megapixels: int = 50
    """Largest radiograph, in millions of pixels; checked before it is decoded."""
    seconds: float = 20.0
    """What decoding one file may take."""
    workers: int = 0
    """Processes that decode; 0 takes one per CPU."""
    batch_size: int = 16
    """Most radiographs that are scored at once."""
    queue: int = 128
    """Most uploads that wait for an answer; one more is told to come again later."""
    upload_seconds: float = 60.0
    """What sending one file may take; a client that sends nothing is dropped after a sixth of it."""

    def __post_init__(self) -> None:
        for name in ("max_mib", "max_megapixels", "seconds", "batch_size", "queue", "upload_seconds"):
            if getattr(self, name) <= 0:
                raise RecipeError(f"--{name.replace('_', '-')} {getattr(self, name)}: give a number above 0.")
        if not 0 <= self.port <= 65535 or self.workers < 0:
            raise RecipeError("--port lies between 0 and 65535, and --workers is 0 or more.")
