"""No mutated file ends a process, hangs, or takes more memory than a few pictures."""

import os
from pathlib import Path

import pytest

from tests.imaging.fuzz import FORMATS, mutant, run, run_batch
from trcgl.imaging.file_process import FileProcess


@pytest.mark.slow
def test_mutated_files_are_read_or_refused(tmp_path):
    """TRCGL_FUZZ names a folder in which an interrupted run resumes; TRCGL_FUZZ_COUNT is the number per format."""
    out = Path(os.environ.get("TRCGL_FUZZ", tmp_path))
    results = run(out, int(os.environ.get("TRCGL_FUZZ_COUNT", "10000")))
    assert {result["format"] for result in results} == set(FORMATS)
    assert [result["unexpected"] for result in results if result["unexpected"]] == []
    assert max(result["peak_mb"] for result in results) < 500


@pytest.mark.parametrize("name", ["png-16", "explicit", "rle"])
def test_a_few_mutated_files_are_read_or_refused(name, monkeypatch):
    monkeypatch.setattr("tests.imaging.fuzz.BATCH", 60)
    process = FileProcess(60.0, ready=True)
    try:
        result = run_batch(process, name, 0)
    finally:
        process.close()
    assert result["unexpected"] == []
    assert result["outcomes"]["refused"] > 5


def test_a_mutant_follows_from_its_seed():
    import numpy as np

    content = FORMATS["jpeg"]()
    first, second = (mutant(content, np.random.default_rng(5)) for _ in range(2))
    assert first == second != content
