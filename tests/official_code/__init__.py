"""Numbers that the authors' code of published methods computes.

Each JSON file names the repository, the commit, the class and its arguments, and stores inputs and outputs. The code
itself is not part of this project: it was run elsewhere. `docs/parity.md` has the result for every method.
"""

import json
from pathlib import Path
from typing import Any


def official(name: str) -> Any:
    """The stored numbers of `NAME.json`."""
    return json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
