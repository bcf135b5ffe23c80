import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from tests.dataset.small_dataset import write_dataset
from tests.evaluate.examples import SPACE, predictions
from tests.model.small_run import write_evaluated_ensemble
from trcgl.core import storage
from trcgl.core.errors import DataError
from trcgl.evaluate.compare import compare, markdown
from trcgl.evaluate.ensemble import evaluate_ensemble, evaluate_ensemble_folder
from trcgl.evaluate.evaluate import evaluate_run
from trcgl.evaluate.evaluation import subset_rows
from trcgl.evaluate.predictions import write_predictions


def finished(folder, scored, space=SPACE):
    storage.write_json(folder / "model" / "model.json", {"label_space": space.to_dict()})
    write_predictions(folder / "predictions" / "test.parquet", scored)
    return folder


@pytest.fixture
def runs(tmp_path):
    weak, strong = predictions(seed=1, signal=1.0), predictions(seed=1, signal=2.5)
    return [finished(tmp_path / "weak", weak), finished(tmp_path / "strong", strong)]


def test_a_better_run_is_found_better_with_an_interval_above_zero(runs):
    comparison = compare(runs, "test", replicates=300)
    assert comparison["reference"] == "weak" and comparison["comparisons"][0]["run"] == "strong"
    for name in ("mAP", "mAUC"):
        difference = comparison["comparisons"][0]["overall"][name]
        assert difference["value"] == pytest.approx(difference["run"] - difference["reference"])
        assert 0 < difference["ci"][0] < difference["value"] < difference["ci"][1]
    assert set(comparison["comparisons"][0]["groups"]) == {"head", "medium", "tail"}
    assert set(comparison["comparisons"][0]["findings"]) == set(SPACE.findings)
    json.dumps(comparison, allow_nan=False)


def test_a_run_does_not_differ_from_itself(runs, tmp_path):
    twin = finished(tmp_path / "twin", predictions(seed=1, signal=1.0))
    difference = compare([runs[0], twin], "test", replicates=200)["comparisons"][0]["overall"]["mAP"]
    assert difference["value"] == 0 and difference["ci"] == [0, 0]


def test_pairing_makes_the_interval_shorter_than_two_unpaired_ones(tmp_path):
    close = finished(tmp_path / "a", predictions(seed=1)), finished(tmp_path / "b", predictions(seed=1, signal=2.02))
    apart = finished(tmp_path / "c", predictions(seed=1)), finished(tmp_path / "d", predictions(seed=1, signal=3.0))

    def length(two):
        low, high = compare(two, "test", replicates=300)["comparisons"][0]["overall"]["mAP"]["ci"]
        return high - low

    assert length(close) < length(apart) / 3


def test_the_order_of_rows_does_not_matter(runs, tmp_path):
    table = pl.read_parquet(runs[1] / "predictions" / "test.parquet").reverse()
    shuffled = finished(tmp_path / "shuffled", predictions(seed=1))
    table.write_parquet(shuffled / "predictions" / "test.parquet")
    first, other = (compare([runs[0], two], "test", replicates=120) for two in (runs[1], shuffled))
    assert first["comparisons"][0]["overall"] == other["comparisons"][0]["overall"]


def test_several_runs_are_compared_with_the_first(runs, tmp_path):
    third = finished(tmp_path / "third", predictions(seed=1, signal=4.0))
    comparison = compare([*runs, third], "test", replicates=120)
    assert [entry["run"] for entry in comparison["comparisons"]] == ["strong", "third"]


def test_a_finding_that_is_undefined_in_both_says_so(tmp_path):
    scored = []
    for signal in (1.0, 2.0):
        example = predictions(seed=1, signal=signal)
        truth = example.truth.copy()
        truth[:, 3] = 0
        scored.append(dataclasses.replace(example, truth=truth))
    comparison = compare(
        [finished(tmp_path / f"{at}", example) for at, example in enumerate(scored)], "test", replicates=120
    )
    hernia = comparison["comparisons"][0]["findings"]["Hernia"]["AP"]
    assert hernia["value"] is None and "no positive" in hernia["why"]
    assert comparison["comparisons"][0]["overall"]["mAP"]["findings"] == 2
    assert "| Hernia" in markdown(comparison)


def test_other_images_are_refused_and_the_first_named(runs, tmp_path):
    fewer = predictions(seed=1).select(np.arange(600) != 4)
    with pytest.raises(DataError, match=r"'image-4' was evaluated in .*weak but not in .*fewer"):
        compare([runs[0], finished(tmp_path / "fewer", fewer)], "test")
    with pytest.raises(DataError, match=r"'image-4' was evaluated in .*weak but not in .*fewer"):
        compare([tmp_path / "fewer", runs[0]], "test")


def test_other_labels_or_findings_are_refused(runs, tmp_path):
    example = predictions(seed=1)
    truth = example.truth.copy()
    row = int(np.flatnonzero(truth[:, 2] == 0)[0])
    truth[row, 2] = 1
    relabeled = finished(tmp_path / "relabeled", dataclasses.replace(example, truth=truth))
    with pytest.raises(DataError, match=f"'image-{row}' has another label for Nodule"):
        compare([runs[0], relabeled], "test")
    fewer = dataclasses.replace(SPACE, findings=SPACE.findings[:3], groups={})
    columns = {name: getattr(example, name)[:, :3] for name in ("score", "truth", "logit")}
    other = finished(tmp_path / "other", dataclasses.replace(example, space=fewer, **columns), fewer)
    with pytest.raises(DataError, match="differ in findings: Hernia"):
        compare([runs[0], other], "test")


def test_one_run_alone_or_one_that_was_not_evaluated_is_refused(runs, tmp_path):
    with pytest.raises(DataError, match="two runs"):
        compare(runs[:1], "test")
    with pytest.raises(DataError, match="trcgl evaluate"):
        compare(runs, "val")
    with pytest.raises(DataError, match=r"model\.json"):
        compare([runs[0], tmp_path / "nothing"], "test")


def test_the_table_is_markdown_with_columns_that_line_up(runs):
    comparison = compare(runs, "test", replicates=120)
    text = markdown(comparison)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    subsets = comparison["comparisons"][0]["subsets"]
    assert len({len(line) for line in rows}) == 1 and len(rows) == 2 + 1 + 3 + 4 + len(subsets)
    assert "**strong** against **weak**" in text and "600 images of 300 patients" in text
    assert " *" in next(line for line in rows if line.startswith("| overall"))


def test_a_run_and_an_ensemble_are_compared_on_another_dataset(tmp_path):
    ensemble = write_evaluated_ensemble(tmp_path)
    run, other = tmp_path / "linear", write_dataset(tmp_path / "other", seed=1, findings=("Hernia", "Other", "Mass"))
    evaluate_run(run, dataset=other, localization=False)
    with pytest.raises(DataError, match=r"ensemble was not evaluated on test of .*Run: trcgl evaluate .*ensemble --da"):
        compare([run, ensemble], dataset=other)
    evaluate_ensemble_folder(ensemble, dataset=other)
    comparison = compare([run, ensemble], dataset=other, replicates=50)
    assert set(comparison["comparisons"][0]["findings"]) == {"Mass", "Hernia"}
    assert "against **linear**, small-1 test: 24 images of 12 patients" in markdown(comparison)
    evaluate_run(run, localization=False)
    assert compare([run, ensemble], "test", replicates=50)["images"] == 24
    storage.write_json(other / "dataset.json", {**storage.read_json(other / "dataset.json"), "license": "another"})
    with pytest.raises(DataError, match="as it is now"):
        compare([run, ensemble], dataset=other)


def test_studies_and_images_are_not_compared(tmp_path):
    ensemble = write_evaluated_ensemble(tmp_path, fusion="mean")
    run = tmp_path / "linear"
    evaluate_run(run, localization=False)
    with pytest.raises(DataError, match=r"ensemble was evaluated by study and .*linear by image\. Evaluate .*--fusion"):
        compare([run, ensemble])
    alone = tmp_path / "alone"
    evaluate_ensemble([run], alone, fusion="mean")
    comparison = compare([alone, ensemble], replicates=50)
    assert (comparison["images"], comparison["studies"]) == (24, 12)
    assert "12 studies with 24 images" in markdown(comparison)
    name, subset = next(iter(comparison["comparisons"][0]["subsets"].items()))
    assert subset["images"] == 2 * subset["studies"]
    assert f"{subset['studies']} studies |" in _line(markdown(comparison), name)


def test_a_missing_interval_is_marked_in_the_table_and_explained_once_below_it(runs):
    comparison = compare(runs, "test", replicates=120)
    other = comparison["comparisons"][0]
    other["overall"]["mAP"] |= {
        "ci": None,
        "why": "a finding among them has fewer than two positive patients: no interval",
    }
    text = markdown(comparison)
    assert "(no interval)" in _line(text, "overall")
    assert text.count("a finding among them has fewer than two positive patients") == 1
    assert "\n\nNo interval: " in text


def _line(text, name):
    """The row of a table of Markdown."""
    return next(line for line in text.splitlines() if line.startswith(f"| {name.replace('=', ': ').replace('_', ' ')}"))


def test_each_view_source_sex_and_age_band_has_a_difference_of_its_own(runs):
    comparison = compare(runs, "test", replicates=120)
    subsets = comparison["comparisons"][0]["subsets"]
    assert {name.partition("=")[0] for name in subsets} >= {"view", "sex"}
    scored = predictions(seed=1)
    for name, subset in subsets.items():
        (rows,) = [rows for key, rows in subset_rows(scored) if key == name]
        assert subset["images"] == rows.sum() < comparison["images"]
    view = next(name for name in subsets if name.startswith("view="))
    found = subsets[view]["mAP"]
    assert found["value"] == pytest.approx(found["run"] - found["reference"])
    assert f"| {view.replace('=', ': ')} " in markdown(comparison)
