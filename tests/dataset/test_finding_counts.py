import pytest

from tests.dataset.small_dataset import write_dataset
from trcgl.dataset.finding_counts import finding_counts, findings_text
from trcgl.dataset.store import open_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(write_dataset(tmp_path_factory.mktemp("data") / "small"))


def test_the_terminal_shows_every_finding_and_the_smallest_splits(dataset):
    findings = finding_counts(dataset.table(), dataset.space)
    text = findings_text(findings)
    for finding in findings:
        assert f"{finding['test']['images']} / {finding['test']['patients']}" in text
    rare = min(findings, key=lambda finding: finding["val"]["patients"])
    assert f"fewest positive patients in val: {rare['finding']} {rare['val']['patients']}" in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_share_of_a_finding_is_that_of_train(dataset):
    train = dataset.table("train")
    with_any = train.select(dataset.space.findings).fill_null(0).sum_horizontal().gt(0).sum()
    for finding in finding_counts(dataset.table(), dataset.space):
        assert finding["prevalence"] == train[finding["finding"]].sum() / with_any
