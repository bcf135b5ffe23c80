"""One evaluated run and its export, for all tests that only read them."""

import pytest

from tests.use.small_run import with_backbone, write_evaluated_run


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory):
    return write_evaluated_run(tmp_path_factory.mktemp("runs") / "run", with_backbone("test_convnext", "trcgl"))


@pytest.fixture(scope="session")
def exported(evaluated, tmp_path_factory):
    """What `export` said, and where."""
    pytest.importorskip("onnx", reason="needs the extra `export`")
    from trcgl.use.export import export

    out = tmp_path_factory.mktemp("exports") / "model"
    return export(evaluated, out), out
