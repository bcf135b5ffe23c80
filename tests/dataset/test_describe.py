import json

import pytest

from tests.dataset import source_fixtures
from tests.pages import assert_fits
from trcgl.core.errors import DataError
from trcgl.dataset.describe import describe
from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.store import open_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    case = source_fixtures.build("padchest", tmp_path_factory.mktemp("archive"))
    out = tmp_path_factory.mktemp("made") / "padchest"
    prepare("padchest", case.root, out, PrepareOptions(manifest_only=True))
    return out


def test_it_counts_images_patients_and_findings(folder):
    summary = describe(folder)
    assert summary["images"] == 12 and summary["images_taking_part"] == 10
    normal = next(row for row in summary["findings"] if row["finding"] == "Normal")
    assert (normal["images"], normal["patients"], normal["group"]) == (3, 2, "head")
    assert sum(normal[split]["images"] for split in ("train", "val", "test")) == 3
    assert {len(summary["groups"][group]) for group in ("head", "medium", "tail")} == {3, 20, 7}
    json.dumps(summary, allow_nan=False)


def test_the_page_holds_its_figures_and_nothing_from_outside(folder, tmp_path):
    describe(folder, tmp_path / "elsewhere")
    page = (tmp_path / "elsewhere" / "describe.html").read_text()
    assert page.count("<svg") == 2 and 'src="http' not in page and "<link" not in page
    for name in ("label_distribution", "cooccurrence"):
        assert (tmp_path / "elsewhere" / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert_fits(tmp_path / "elsewhere" / "describe.html")


def test_the_imbalance_is_that_of_train_and_stands_in_the_first_lines_of_the_page(folder, tmp_path):
    summary = describe(folder, tmp_path)
    positives = open_dataset(folder).split("train").select(open_dataset(folder).space.findings).sum().row(0)
    assert summary["train"]["imbalance"] == max(positives) / min(filter(None, positives))
    lead = (tmp_path / "describe.html").read_text().partition('class="lead">')[2].partition("</p>")[0]
    assert f"{summary['train']['imbalance']:,.0f} times as many images as the rarest" in lead


def test_describing_a_dataset_leaves_it_valid(folder):
    assert describe(folder) == describe(folder)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"dataset\.json"):
        describe(tmp_path)
