import json

import pytest

from tests.dataset import source_fixtures
from trcgl.core.errors import DataError
from trcgl.dataset.describe import describe
from trcgl.dataset.prepare import PrepareOptions, prepare


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    case = source_fixtures.build("padchest", tmp_path_factory.mktemp("archive"))
    out = tmp_path_factory.mktemp("made") / "padchest"
    prepare("padchest", case.root, out, PrepareOptions(manifest_only=True))
    return out


def test_it_counts_images_patients_and_findings(folder):
    told = describe(folder)
    assert told["images"] == 12 and told["images_taking_part"] == 10
    normal = next(one for one in told["findings"] if one["finding"] == "Normal")
    assert (normal["images"], normal["patients"], normal["group"]) == (3, 2, "head")
    assert sum(normal[split]["images"] for split in ("train", "val", "test")) == 3
    assert {len(told["groups"][group]) for group in ("head", "medium", "tail")} == {3, 20, 7}
    json.dumps(told, allow_nan=False)


def test_the_page_holds_its_figures_and_nothing_from_outside(folder, tmp_path):
    describe(folder, tmp_path / "elsewhere")
    page = (tmp_path / "elsewhere" / "describe.html").read_text()
    assert page.count("<svg") == 2 and 'src="http' not in page and "<link" not in page
    for name in ("label_distribution", "cooccurrence"):
        assert (tmp_path / "elsewhere" / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_describing_a_dataset_leaves_it_valid(folder):
    assert describe(folder) == describe(folder)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"dataset\.json"):
        describe(tmp_path)
