"""The files of the page; what is not in this list is not served."""

from importlib.resources import files

_SCRIPT = "text/javascript; charset=utf-8"
PAGE = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "api.js": _SCRIPT,
    "dom.js": _SCRIPT,
    "findings.js": _SCRIPT,
    "messages.js": _SCRIPT,
    "model.js": _SCRIPT,
    "page.js": _SCRIPT,
    "picture.js": _SCRIPT,
    "theme.js": _SCRIPT,
    "token.js": _SCRIPT,
    "viewer.js": _SCRIPT,
}
"""Name to content type."""


def page_files() -> dict[str, bytes]:
    """Name to content, read once: a package may be replaced while the server runs."""
    folder = files("trcgl.serve") / "page"
    return {name: (folder / name).read_bytes() for name in PAGE}
