"""The commands that the documentation shows."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("docs", "docs/guide", "docs/results")
PAGES = [ROOT / "README.md", *(page for folder in FOLDERS for page in sorted((ROOT / folder).glob("*.md")))]


def commands(page: Path, kind: str = "(?:console|sh|bash)?") -> Iterator[str]:
    """The trcgl commands in a page's code blocks, as typed.

    Args:
        page: a Markdown file.
        kind: what stands behind the fence of a block, as a regular expression; indented blocks have none.
    """
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fences = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    blocks = [content for language, content in fences if re.fullmatch(kind, language)]
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    blocks += re.findall(r"(?:^ {4}.*\n)+", outside, re.MULTILINE)
    for part in re.split(r"\n| && ", "\n".join(blocks)):
        typed = re.sub(r"^(\w+=\S+ )*(srun )?(\.venv/bin/)?", "", part.strip().removeprefix("$ "))
        if typed.startswith("trcgl "):
            yield typed
