"""Fixtures that every test may use. Shapes and types of `trcgl` are checked while the tests run."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

install_import_hook("trcgl", "beartype.beartype")

# Machines differ in speed; how long an example takes says nothing about its truth.
settings.register_profile("trcgl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("trcgl")

BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real radiographs and label tables, or a skip that says why."""
    folder = Path(os.environ.get("TRCGL_REAL_DATA", BESIDE_THE_CHECKOUT / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real radiographs at {folder}; set TRCGL_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def shared_weights(real_data: Path) -> Path:
    """The folder of initial weights beside the real data, or a skip that says why."""
    folder = real_data.parent / "weights"
    if not folder.is_dir():
        pytest.skip(f"no weights at {folder}")
    return folder


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory):
    """An evaluated run, for tests that only read it."""
    from tests.model.small_run import with_backbone, write_evaluated_run

    return write_evaluated_run(tmp_path_factory.mktemp("runs") / "run", with_backbone("test_convnext", "trcgl"))


@pytest.fixture(scope="session")
def exported(evaluated, tmp_path_factory):
    """The result of `export` of the evaluated run, and the folder that it wrote."""
    pytest.importorskip("onnx", reason="needs the extra `export`")
    from trcgl.export.export import export

    out = tmp_path_factory.mktemp("exports") / "model"
    return export(evaluated, out), out
