"""A model with known scores, and the page that shows it."""

from contextlib import contextmanager

import numpy as np

from tests.serve.serving import Brightness, serving

FINDINGS = (
    ("Mass", "head", 0.4, 0.31),
    ("pleural_effusion", "medium", 0.5, 0.9996),
    ("Hernia", "tail", 0.02, 0.062),
    ("Normal", "head", 0.5, 0.44),
    ("Subcutaneous Emphysema", "tail", 0.1, 0.0002),
)
"""Name, group, threshold, score."""
RANKED = ["pleural effusion", "Normal", "Mass", "Hernia", "Subcutaneous Emphysema"]
FIRST, SECOND = (f"#list li:nth-child({place}) button" for place in (1, 2))


class Places(Brightness):
    """Scores that no image changes, and a map at another place for each finding."""

    def __init__(self):
        super().__init__()
        findings = [{"name": name, "group": group, "threshold": cut} for name, group, cut, _ in FINDINGS]
        self.about |= {"name": "places", "findings": findings, "phantom": True, "map_kind": "attention"}

    def scores(self, images):
        return np.tile(np.array([score for *_, score in FINDINGS], np.float32), (len(images), 1))

    def maps(self, images):
        grids = np.zeros((len(FINDINGS), 4, 4), np.float32)
        for place in range(len(FINDINGS) - 1):
            grids[place, place % 4, place // 4 + 1] = 1
        return np.tile(grids, (len(images), 1, 1, 1))  # the last finding has no place


@contextmanager
def running(network=None, **settings):
    with serving(network or Places(), seconds=120.0, **settings) as (address, _):
        yield f"http://127.0.0.1:{address[1]}/"


def look(page, file):
    """Give the page a file and wait for the findings."""
    page.set_input_files("#file", file)
    page.wait_for_selector(FIRST)
