"""The settings of `trcgl serve`."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from trcgl.core.errors import Reason, RecipeError

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
    accept: tuple[Reason, ...] = ()
    """Score files that are refused for these reasons, for instance `body-part` (not the chest)."""
    identifiers: bool = False
    """Add the UIDs and the accession number of DICOM files to the answers. They identify the examination."""

    def __post_init__(self) -> None:
        for name in ("max_mib", "max_megapixels", "seconds", "batch_size", "queue", "upload_seconds"):
            if getattr(self, name) <= 0:
                raise RecipeError(f"--{name.replace('_', '-')} {getattr(self, name)}: give a number above 0.")
        if not 0 <= self.port <= 65535 or self.workers < 0:
            raise RecipeError("--port lies between 0 and 65535, and --workers is 0 or more.")


@dataclass(frozen=True)
class NodeOptions:
    """Studies that arrive over the DICOM network or in a folder, and where their answers go."""

    dicom_port: int | None = None
    """Receive studies by C-STORE on this port; 0 chooses a free port and prints it. Default: no DICOM node."""
    dicom_host: str = "127.0.0.1"
    """Address of the DICOM port. Any address but a loopback address needs --allow-ae."""
    ae_title: str = "TRCGL"
    """AE title of this server; associations that call another title are rejected."""
    allow_ae: tuple[str, ...] = ()
    """AE titles that may send studies; default on a loopback address: all."""
    max_associations: int = 8
    """Largest number of associations at a time; further ones are rejected."""
    watch: Path | None = None
    """Score the files that arrive in this folder and its subfolders; they stay where they are."""
    quiet_seconds: float = 30.0
    """Seconds without a change after which a study, or a file in the watched folder, counts as complete."""
    send_to: str | None = None
    """DICOM node that receives the structured reports, as AET@HOST:PORT."""
    out: Path | None = None
    """Folder for the answers: per study one JSON object, and for DICOM files the structured report."""
    maps: int = 0
    """Number of findings per radiograph whose map is added as a DICOM Secondary Capture, positive findings first."""
    keep: Path | None = None
    """Folder that received files are moved to after the answer; default: they are deleted."""
    spool: Path | None = None
    """Folder for studies and answers that wait. Default: a temporary folder, which is lost when the server stops."""
    spool_mib: int = 4096
    """Largest size of the spool, in MiB; further files are refused with status A700 (out of resources)."""
    spool_files: int = 10_000
    """Largest number of files in the spool; further files are refused with status A700."""
    retry_hours: float = 72.0
    """An answer that could not be sent for this many hours is dropped."""

    def __post_init__(self) -> None:
        for name in ("max_associations", "quiet_seconds", "spool_mib", "spool_files", "retry_hours"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"--{name.replace('_', '-')} {getattr(self, name)}: give a number above 0.")
        if self.maps < 0 or not 0 <= (self.dicom_port or 0) <= 65535:
            raise RecipeError("--maps is 0 or more, and --dicom-port lies between 0 and 65535.")
        for title in (self.ae_title, *self.allow_ae):
            _check_title(title)
        if self.send_to is not None:
            self.destination  # noqa: B018
        changed = [name for name, value in vars(self).items() if value != getattr(NodeOptions, name)]
        if changed and not self.wanted:
            option = f"--{changed[0].replace('_', '-')}"
            raise RecipeError(f"{option} needs studies to score. Give --dicom-port PORT or --watch FOLDER.")
        if self.wanted and self.send_to is None and self.out is None:
            raise RecipeError("The answers to the studies go nowhere. Give --send-to AET@HOST:PORT or --out FOLDER.")
        for name, folder in (("out", self.out), ("keep", self.keep), ("spool", self.spool)):
            if folder and self.watch and folder.resolve().is_relative_to(self.watch.resolve()):
                raise RecipeError(f"--{name} {folder} lies in the watched folder. Choose a folder outside it.")
        if self.dicom_port is not None and not is_loopback(self.dicom_host) and not self.allow_ae:
            raise RecipeError(
                f"--dicom-host {self.dicom_host}: anyone who reaches this address could send studies. Name the AE "
                "titles of the senders with --allow-ae, or leave --dicom-host out."
            )

    @property
    def wanted(self) -> bool:
        """Whether studies are received at all."""
        return self.dicom_port is not None or self.watch is not None

    @property
    def destination(self) -> tuple[str, str, int] | None:
        """AE title, host and port of `send_to`."""
        if self.send_to is None:
            return None
        found = re.fullmatch(r"(.+)@(?:\[([^\]]+)\]|([^@:\[\]]+)):(\d{1,5})", self.send_to)
        if found is None or not 0 < int(found[4]) <= 65535:
            raise RecipeError(f"--send-to {self.send_to}: give AET@HOST:PORT, for instance PACS@10.0.0.5:104.")
        _check_title(found[1])
        return found[1], found[2] or found[3], int(found[4])


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_title(title: str) -> None:
    """Refuse an AE title that PS3.5 6.2 does not allow."""
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", title) or not title.strip():
        raise RecipeError(f"AE title {title!r}: give 1 to 16 ASCII characters without a backslash.")
