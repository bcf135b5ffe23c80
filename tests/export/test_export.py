"""A model folder that stands on its own, as whoever receives it finds it."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import trcgl
from tests.dataset.small_dataset import SPACE
from tests.model.small_run import TEMPERATURE, THRESHOLDS, with_backbone, write_model
from trcgl.cli import main as cli
from trcgl.core.errors import CheckpointError, DataError, RecipeError
from trcgl.core.storage import read_json, write_json
from trcgl.export import export as stage
from trcgl.export import onnx_graph
from trcgl.export.export import export, files
from trcgl.imaging.gray import to_uint8
from trcgl.imaging.radiograph import fit_square

pytest.importorskip("onnx", reason="needs the extra `export`")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"
BLOCKED = ("torch", "torchvision", "timm", "trcgl", "PIL", "scipy", "polars", "safetensors", "lightning", "onnx")


@pytest.fixture(scope="module")
def run(evaluated):
    return evaluated


def radiograph(shape=(45, 37), dtype=np.uint8):
    """Smooth shapes, as radiographs have, with noise."""
    down, along = np.mgrid[0 : shape[0], 0 : shape[1]]
    waves = np.sin(down / 7) * np.cos(along / 5) + np.random.default_rng(0).normal(0, 0.1, shape)
    top = 200 if dtype == np.uint8 else 4000
    return np.clip((waves + 1.5) / 3 * top, 0, top).astype(dtype)


def documented_script():
    """The longest block of Python in the page."""
    return max(re.findall(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.M | re.S), key=len)


def test_the_folder_holds_the_documented_files_and_no_other(exported):
    summary, out = exported
    assert sorted(path.name for path in out.iterdir()) == sorted(summary["files"]) == sorted(files())
    page = DOCS.read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in files())


def test_the_model_scores_as_it_did_in_the_run(run, exported):
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32), dtype=np.uint8)
    before, after = trcgl.load_model(run), trcgl.load_model(exported[1])
    assert np.array_equal(before(images), after(images))
    assert after.thresholds == THRESHOLDS and after.temperature == TEMPERATURE


def test_onnx_takes_a_batch_of_any_size_and_gives_logits_and_maps(exported):
    summary, out = exported
    model = trcgl.load_model(out)
    session = onnxruntime.InferenceSession(out / "model.onnx")
    assert [output.name for output in session.get_outputs()] == ["logits", "maps"]
    images = np.random.default_rng(0).integers(0, 255, (13, 32, 32), dtype=np.uint8)
    logits, maps = session.run(["logits", "maps"], {"images": images})
    assert np.abs(logits - model.logits(images)).max() < 1e-4
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(images)[:, None] / 255).maps.numpy()
    assert np.abs(maps - expected).max() < 1e-4
    np.testing.assert_allclose(maps.sum((2, 3)), 1, atol=1e-5)
    assert summary["parity"]["batches"] == [1, 3, 8]
    assert set(summary["parity"]["largest_difference"]) == {"logits", "maps"}
    assert max(summary["parity"]["largest_difference"].values()) <= 1e-4


def test_the_documented_script_is_the_one_in_the_folder_and_23_lines_long(exported):
    script = documented_script()
    assert script == (exported[1] / "score.py").read_text(encoding="utf-8")
    assert len([line for line in script.splitlines() if line.strip()]) == 23


def test_the_documented_script_gives_the_same_scores_where_there_is_no_torch(exported, tmp_path):
    _, out = exported
    np.save(tmp_path / "image.npy", radiograph())
    (tmp_path / "documented.py").write_text(documented_script(), encoding="utf-8")
    blocked = f"import sys, runpy; sys.modules.update(dict.fromkeys({BLOCKED!r}))"  # None: the import fails
    code = f"{blocked}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    refused = subprocess.run([sys.executable, "-c", f"{blocked}; import torch"], capture_output=True, check=False)
    assert b"import of torch halted" in refused.stderr
    command = [sys.executable, "-c", code, str(tmp_path / "documented.py"), str(tmp_path / "image.npy")]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=True)
    expected = trcgl.load_model(out).predict(radiograph()).scores
    assert json.loads(done.stdout) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("fit", ["letterbox", "squash"])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((32, 32), np.uint8), ((20, 29), np.uint8), ((33, 250), np.uint8), ((401, 333), np.uint8), ((96, 64), np.uint16)],
)
@pytest.mark.parametrize("collimated", [0, 100])  # nearly all pixels are the same
def test_the_script_makes_a_radiograph_square_as_trcgl_does(
    shape, dtype, fit, collimated, exported, tmp_path, monkeypatch, capsys
):
    _, out = exported
    folder = write_model(tmp_path / "model", with_backbone("test_convnext", "trcgl"), fit=fit)
    (folder / "model.onnx").write_bytes((out / "model.onnx").read_bytes())
    image = radiograph(shape, dtype)
    if collimated:
        image = np.where(np.arange(image.size).reshape(shape) % 400, image.dtype.type(collimated), image)
    np.save(tmp_path / "image.npy", image)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["score.py", str(tmp_path / "image.npy")])
    ran = runpy.run_path(str(out / "score.py"), run_name="__main__")
    model = trcgl.load_model(folder)
    expected = model.predict(image).scores
    assert json.loads(capsys.readouterr().out) == pytest.approx(expected, abs=1e-4)
    assert np.array_equal(ran["images"][0], fit_square(to_uint8(image)[0], 32, fit)[0])


@pytest.mark.parametrize("stored_size", [64, 48, 37, 20])
def test_the_script_reads_a_radiograph_at_the_size_of_the_training_dataset(
    stored_size, exported, tmp_path, monkeypatch, capsys
):
    _, out = exported
    folder = write_model(tmp_path / "model", with_backbone("test_convnext", "trcgl"), stored_size=stored_size)
    (folder / "model.onnx").write_bytes((out / "model.onnx").read_bytes())
    np.save(tmp_path / "image.npy", radiograph((150, 133)))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["score.py", str(tmp_path / "image.npy")])
    ran = runpy.run_path(str(out / "score.py"), run_name="__main__")
    model = trcgl.load_model(folder)
    stored = fit_square(radiograph((150, 133)), stored_size)[0]
    assert model.shape == (stored_size, "letterbox")
    difference = np.abs(ran["images"].astype(int) - model.resized(stored[None]))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.05  # rounding of exact halves
    expected = model.predict(radiograph((150, 133))).scores
    assert expected == pytest.approx(dict(zip(SPACE.findings, model(model.resized(stored[None]))[0], strict=True)))
    assert json.loads(capsys.readouterr().out) == pytest.approx(expected, abs=5e-4)


def test_a_graph_that_differs_from_pytorch_fails_the_export_and_leaves_nothing(run, tmp_path, monkeypatch):
    compare = onnx_graph.compare

    def against_another(graph, path, side):
        with torch.no_grad():
            graph.network.head.classifier.bias.add_(2e-4)
        return compare(graph, path, side)

    monkeypatch.setattr(onnx_graph, "compare", against_another)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"at batch 1 its logits differ from PyTorch's by 2\.\de-04"):
        export(run, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_same_export_again_changes_nothing(run, exported):
    summary, out = exported
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert export(run, out) == summary
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_metrics_of_a_later_evaluation_go_into_the_card_of_the_same_model(run, exported, tmp_path, capsys):
    later, out = tmp_path / "run", tmp_path / "model"
    shutil.copytree(run, later)
    shutil.copytree(exported[1], out)
    evaluation = read_json(later / "evaluation" / "test.json")
    evaluation["overall"]["mAP"]["value"] = 0.12345
    write_json(later / "evaluation" / "test.json", evaluation)
    kept = {name: (out / name).read_bytes() for name in ("model.safetensors", "model.onnx", "score.py", "DATA.md")}
    assert cli.main(["export", str(later), "--out", str(out)]) == 0
    assert "its model card has got the present evaluation" in capsys.readouterr().out
    assert "0.123" in (out / "README.md").read_text()
    assert read_json(out / "model.json")["evaluation"]["test"]["overall"]["mAP"]["value"] == 0.12345
    assert {name: (out / name).read_bytes() for name in kept} == kept
    assert not export(later, out)["card_updated"]


def test_a_folder_that_holds_something_else_is_refused_and_kept(run, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    with pytest.raises(RecipeError, match="is not empty and was not made by trcgl export"):
        export(run, tmp_path / "thesis", onnx=False)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"


def test_an_export_of_another_model_is_refused(run, tmp_path):
    out = tmp_path / "model"
    export(run, out, onnx=False)
    other = write_model(tmp_path / "other", with_backbone("test_convnext", "trcgl"), seed=1)
    with pytest.raises(RecipeError, match="holds another export"):
        export(other, out, onnx=False)
    with pytest.raises(RecipeError, match="holds another export"):
        export(run, out, onnx=True)
    (out / "README.md").unlink()
    with pytest.raises(RecipeError, match=r"lacks README\.md"):
        export(run, out, onnx=False)


@pytest.mark.parametrize("weights", ["/data/anna-meier/weights.safetensors", "../../anna-meier/weights.safetensors"])
def test_paths_of_this_machine_stay_here(weights, tmp_path):
    recipe = with_backbone("test_convnext", "linear", weights=weights, label_text="../anna-meier/text")
    write_model(tmp_path / "model", recipe, license="unknown", vectors=torch.zeros(len(SPACE.findings), 8))
    summary = read_json(tmp_path / "model" / "model.json")
    synthetic = {"folder": "../anna-meier/synthetic", "digest": "0", "rows": 7}
    write_json(tmp_path / "model" / "model.json", {**summary, "synthetic": synthetic})
    export(tmp_path / "model", tmp_path / "out", onnx=False)
    text = "".join((tmp_path / "out" / name).read_text() for name in ("model.json", "README.md", "DATA.md"))
    assert "anna-meier" not in text
    assert "weights.safetensors" in text and "7 synthetic images of a generator" in text
    summary = read_json(tmp_path / "out" / "model.json")["recipe"]["model"]
    assert (summary["weights"], summary["label_text"]) == ("weights.safetensors", "text")
    assert trcgl.load_model(tmp_path / "out").space == SPACE


def test_a_text_model_of_the_hub_keeps_its_name(tmp_path):
    recipe = with_backbone("test_convnext", "linear", label_text="lab/bio.text-1")
    write_model(tmp_path / "model", recipe, vectors=torch.zeros(len(SPACE.findings), 8))
    export(tmp_path / "model", tmp_path / "out", onnx=False)
    summary = read_json(tmp_path / "out" / "model.json")["recipe"]["model"]
    assert (summary["weights"], summary["label_text"]) == ("none", "lab/bio.text-1")


def test_a_mounted_folder_is_refused_before_the_work(run, tmp_path, monkeypatch):
    monkeypatch.setattr("os.path.ismount", lambda path: str(path) == str(tmp_path))
    with pytest.raises(DataError, match="is a mounted folder, which cannot be replaced. Name a folder below it"):
        export(run, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_evaluated_is_not_sent_to_evaluate(tmp_path, capsys):
    model = write_model(tmp_path / "model", with_backbone("test_convnext", "linear"))
    assert cli.main(["export", str(model), "--out", str(tmp_path / "out"), "--no-onnx"]) == 0
    said = capsys.readouterr().err
    assert "not calibrated, no thresholds: both come with the evaluation of its run." in said
    assert "trcgl evaluate" not in said


def test_the_model_card_says_how_good_on_what_and_for_what_not(exported):
    card = (exported[1] / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n") and "library_name: trcgl" in card
    assert "Research use only. Not a medical device." in card
    assert "44 images of 22 patients in train, 24 images of 12 patients in val, 24 images of 12" in card
    assert "Bars, not bones." in card and "archive: nobody's\n" in card
    assert re.search(r"### test: 24 images of 12 patients", card)
    assert re.search(r"\| Mass \| head \| \d+ \| 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] \|", card)
    assert re.search(r"\| all \| 3 \| 0\.\d{3} \[", card)
    assert "License of the initial weights: **none** (trained from random weights)" in card
    assert "epoch, chosen on val | 2 (mAP 0.2500)" in card
    assert "{{" not in card and "\n\n\n" not in card.replace("\n\n\n## ", "\n\n## ")


def test_a_model_without_run_is_exported_with_cards_that_ask(tmp_path):
    model = write_model(tmp_path / "model", with_backbone("test_resnet", "linear"), license="cc-by-nc-4.0")
    summary = export(model, tmp_path / "out", onnx=False)
    card = (tmp_path / "out" / "README.md").read_text()
    assert summary["calibrated"] is False and summary["evaluation"] == {} and summary["parity"] is None
    assert "license: cc-by-nc-4.0\n" in card
    assert "**Not calibrated:**" in card and "Not evaluated when this card was written" in card
    assert "| Hernia | tail | - |" in card
    assert "*Which archive or hospital" in (tmp_path / "out" / "DATA.md").read_text()


def test_without_the_extra_the_message_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(RecipeError, match=r"pip install 'trcgl-net\[export\]'.*--no-onnx"):
        export(run, tmp_path / "model")
    assert export(run, tmp_path / "model", onnx=False)["files"] == files(onnx=False)


def test_a_disk_that_fills_leaves_nothing_behind(run, tmp_path, monkeypatch):
    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stage.shutil, "copyfile", full)
    with pytest.raises(DataError, match="No space left on device"):
        export(run, tmp_path / "model", onnx=False)
    assert not list(tmp_path.iterdir())


def test_the_verb_prints_one_object(run, tmp_path, capsys):
    assert cli.main(["export", str(run), "--out", str(tmp_path / "model"), "--no-onnx", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["schema"] == "trcgl.export/1" and summary["hub"] is None and summary["calibrated"]


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.json"):
        export(tmp_path, tmp_path / "out", onnx=False)


def test_predict_takes_a_file_or_an_array(exported, tmp_path):
    model = trcgl.load_model(exported[1])
    Image.fromarray(radiograph()).save(tmp_path / "scan.png")
    summary = model.predict(tmp_path / "scan.png")
    assert summary == model.predict(radiograph()) == model.predict(str(tmp_path / "scan.png"))
    assert list(summary.scores.values()) == sorted(summary.scores.values(), reverse=True)
    assert set(summary.positive) == {
        finding for finding in SPACE.findings if summary.scores[finding] >= THRESHOLDS[finding]
    }
