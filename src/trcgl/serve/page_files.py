"""The files of the page; what is not in this list is not served."""

from importlib.resources import files

_SCRIPTS = ("api", "dom", "findings", "messages", "model", "page", "picture", "theme", "token", "viewer")
PAGE = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **{f"{name}.js": "text/javascript; charset=utf-8" for name in _SCRIPTS},
}
"""Name to content type."""


def page_files() -> dict[str, bytes]:
    """Name to content, read once: a package may be replaced while the server runs."""
    folder = files("trcgl.serve") / "page"
    return {name: (folder / name).read_bytes() for name in PAGE}
