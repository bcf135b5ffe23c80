import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tests.dataset import source_fixtures
from tests.imaging.dicom_files import dicom
from tests.pages import assert_fits
from trcgl.cli.main import main
from trcgl.core.errors import DataError, RecipeError
from trcgl.core.storage import sha256_file
from trcgl.dataset.prepare import PrepareOptions, prepare
from trcgl.dataset.sources.table import Options
from trcgl.dataset.store import open_dataset
from trcgl.imaging import decode
from trcgl.imaging.notes import NOTES

COLUMNS = Options(finding_columns=("A", "B"))
SMALL = PrepareOptions(size=16, workers=1)


@pytest.fixture
def archive(tmp_path):
    """Thirty images of fifteen patients; every image is its own number in gray, with a lighter stripe below."""
    root = tmp_path / "archive"
    root.mkdir()
    lines = ["image,patient,A,B"]
    for number in range(30):
        lines.append(f"{number}.png,p{number // 2},{number % 2},{int(number % 5 == 0)}")
        pixels = np.full((20, 20), number * 8, np.uint8)
        pixels[15:] += 4
        Image.fromarray(pixels).save(root / f"{number}.png")
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def digests(folder):
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.suffix in (".npy", ".parquet")}


def test_row_i_of_the_store_is_the_picture_of_its_manifest_row(archive, tmp_path):
    (archive / "3.png").write_bytes(b"no image")
    prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)
    dataset = open_dataset(tmp_path / "out")
    assert dataset.manifest.height == 29
    for row in dataset.manifest.iter_rows(named=True):
        number = int(row["image_id"].removesuffix(".png"))
        assert (dataset.images[row["row"]][:10] == number * 8).all()
        assert row["sha256"] == sha256_file(archive / row["path"])


def test_the_dataset_says_what_is_in_it(archive, tmp_path):
    prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)
    info = json.loads((tmp_path / "out" / "dataset.json").read_text())
    manifest = open_dataset(tmp_path / "out").manifest
    for split, stated in info["splits"].items():
        rows = manifest.filter(pl.col("split") == split)
        assert (stated["images"], stated["patients"]) == (rows.height, rows["patient_id"].n_unique())
    train = manifest.filter(pl.col("split") == "train")
    assert info["cooccurrence"]["positives"] == [train["A"].sum(), train["B"].sum()]
    assert set(info["label_space"]["groups"]) == {"A", "B"}


def test_several_processes_make_the_same_parts_as_one(archive, tmp_path):
    paths = tuple(f"{row % 31}.png" for row in range(300))
    alone, shared = (decode.Decoder(tmp_path / name, archive, paths, None, 8, "squash") for name in ("1", "2"))
    decode.decode(alone, workers=1)
    decode.decode(shared, workers=2)
    assert alone.parts == 38
    for part in range(alone.parts):
        assert alone.path(part).read_bytes() == shared.path(part).read_bytes()


@pytest.mark.parametrize(("rows", "parts"), [(1, 1), (30, 4), (512, 64), (5000, 64), (100_000, 782)])
def test_a_small_table_has_parts_for_all_processes(rows, parts, tmp_path):
    decoder = decode.Decoder(tmp_path, tmp_path, (None,) * rows, None, 8, "squash")
    assert decoder.parts == parts <= max(64, -(-rows // 128))
    assert [row for part in range(parts) for row in decoder.rows(part)] == list(range(rows))


def _killed(row):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_an_error_that_says_what_to_do(tmp_path):
    decoder = decode.Decoder(tmp_path, tmp_path, (None,) * 300, _killed, 8, "squash")
    with pytest.raises(DataError, match=r"fewer --workers.*__main__"):
        decode.decode(decoder, workers=2)


def test_an_interrupted_preparation_goes_on_where_it_stopped(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "ROWS_PER_PART", 8)
    prepare("table", archive, tmp_path / "whole", SMALL, COLUMNS)
    made = []

    def make(self, part, ours=decode.Decoder.make):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(part)
        ours(self, part)

    with monkeypatch.context() as stopped:
        stopped.setattr(decode.Decoder, "make", make)
        with pytest.raises(KeyboardInterrupt):
            prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)
    assert not (tmp_path / "out" / "dataset.json").exists()
    for name in ("0.png", "8.png"):  # of the parts that were finished: they must not be needed again
        (archive / name).unlink()
    prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")
    assert not (tmp_path / "out" / "parts").exists()


def test_a_finished_dataset_is_left_as_it_is(archive, tmp_path):
    first = prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert prepare("table", archive, tmp_path / "out", SMALL, COLUMNS) == first
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}


def test_a_dataset_of_other_settings_is_refused_and_says_which(archive, tmp_path):
    prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)
    with pytest.raises(RecipeError, match="size: 16 → 32"):
        prepare("table", archive, tmp_path / "out", PrepareOptions(size=32, workers=1), COLUMNS)


def test_a_label_table_that_changed_since_is_refused(archive, tmp_path):
    prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)
    table = archive / "labels.csv"
    table.write_text(table.read_text().replace("1.png,p0,1", "1.png,p0,0"))
    with pytest.raises(RecipeError, match="rows of the label table"):
        prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)


def test_a_folder_with_somebodys_files_is_refused_and_kept(archive, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(RecipeError, match="not made by trcgl"):
        prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_where_no_image_can_be_read_the_root_is_questioned(archive, tmp_path):
    for path in archive.glob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"0\.png: no such file.*--root"):
        prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)
    labels = prepare("table", archive, tmp_path / "out", replace(SMALL, manifest_only=True), COLUMNS)
    assert labels["counts"]["images"] > 0


def test_a_disk_with_too_little_space_is_refused_before_anything_is_written(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100})())
    with pytest.raises(DataError, match="Free some space"):
        prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_is_an_error_and_leaves_no_half_file(archive, tmp_path):
    """The size of a file is capped in a process of its own; for a program this is like a full disk."""
    code = (
        "import resource, sys; from pathlib import Path; from trcgl.core.errors import DataError;"
        "from trcgl.dataset.prepare import prepare, PrepareOptions; from trcgl.dataset.sources.table import Options;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: prepare('table', Path(sys.argv[1]), Path(sys.argv[2]), PrepareOptions(size=64, workers=1),"
        " Options(finding_columns=('A', 'B')))\n"
        "except DataError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, archive, tmp_path / "out"], capture_output=True, text=True)
    assert "cannot be written (File too large)" in done.stdout and "ulimit -f" in done.stdout, done.stderr
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert left == ["prepare.json"]


def test_a_patient_whom_the_archive_gives_to_two_splits_is_refused_before_decoding(archive, tmp_path):
    rows = (archive / "labels.csv").read_text().splitlines()
    split = ["set", *(["train", "test"] * 15)]
    (archive / "labels.csv").write_text("\n".join(f"{row},{name}" for row, name in zip(rows, split, strict=True)))
    options = Options(finding_columns=("A", "B"), split_column="set")
    with pytest.raises(DataError, match="patient 'p0' is given to both"):
        prepare("table", archive, tmp_path / "out", SMALL, options)
    assert not (tmp_path / "out").exists()


def test_the_same_file_under_two_patients_is_reported(archive, tmp_path):
    (archive / "9.png").write_bytes((archive / "0.png").read_bytes())
    report = prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)
    assert report["leaks"]["files_of_several_patients"] == 1
    assert report["leaks"]["examples"] == [["0.png", "9.png"]]
    assert report["leaks"]["patients_in_two_splits"] == 0


def test_what_looks_wrong_is_on_the_page_and_on_the_terminal(archive, tmp_path, capsys):
    (archive / "9.png").write_bytes((archive / "0.png").read_bytes())
    names = ["--source.finding-columns", "A", "B"]
    where = ["--root", str(archive), "--out", str(tmp_path / "out")]
    assert main(["prepare", "table", *where, "--size", "16", "--workers", "1", *names]) == 0
    said = capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    for notice in ("identical files of several patients: 1, of these", "fewer than 20 patients:"):
        assert f"notice: {notice}" in said and notice in page


def test_blank_pictures_are_dropped_unless_they_are_accepted(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    rows = ["image,patient,A,B"]
    for number in range(12):
        picture = np.full((20, 20), number * 8, np.uint8)
        picture[5:9, 5:9] += 0 if number < 3 else 40
        Image.fromarray(picture).save(root / f"{number}.png")
        rows.append(f"{number}.png,p{number},{number % 2},{int(number % 5 == 0)}")
    (root / "labels.csv").write_text("\n".join(rows))
    report = prepare("table", root, tmp_path / "out", SMALL, COLUMNS)
    assert [row["image_id"] for row in report["dropped"]] == ["0.png", "1.png", "2.png"]
    assert report["reasons"] == {"a picture of one gray value (kept with --accept blank)": 3}
    assert "0.png: " in report["dropped"][0]["reason"]
    accepting = PrepareOptions(size=16, workers=1, accept=("blank",))
    assert not prepare("table", root, tmp_path / "all", accepting, COLUMNS)["dropped"]
    assert open_dataset(tmp_path / "all").info["accept"] == ["blank"]


def test_reasons_are_counted_without_what_differs_from_file_to_file(tmp_path):
    root, sides = tmp_path / "in", range(16)
    root.mkdir()
    rows = ["image,patient,A,B", *(f"scan {side}.dcm,p{side},{side % 2},{int(side % 5 == 0)}" for side in sides)]
    (root / "labels.csv").write_text("\n".join(rows))
    for side in sides:
        pixels = np.arange(400, dtype=np.uint16).reshape(20, 20) * (side + 1)
        part = {0: "HAND", 1: "KNEE"}.get(side, "CHEST")
        (root / f"scan {side}.dcm").write_bytes(dicom(pixels, BodyPartExamined=part))
    for side in (2, 3):
        (root / f"scan {side}.dcm").unlink()
    report = prepare("table", root, tmp_path / "out", SMALL, COLUMNS)
    assert report["reasons"] == {
        "a body part other than the chest (kept with --accept body-part)": 2,
        "no such file": 2,
    }
    page = (tmp_path / "out" / "report.html").read_text()
    assert "2 of 2 findings have fewer than 20 positive patients in test, so that results on them" in page


def test_a_table_of_another_modality_says_so_once(tmp_path):
    root, sides = tmp_path / "in", range(12)
    root.mkdir()
    rows = ["image,patient,A,B", *(f"{side}.dcm,p{side},{side % 2},{int(side % 5 == 0)}" for side in sides)]
    (root / "labels.csv").write_text("\n".join(rows))
    for side in sides:
        pixels = np.arange(400, dtype=np.uint16).reshape(20, 20) * (side + 1)
        (root / f"{side}.dcm").write_bytes(dicom(pixels, Modality="CT", BodyPartExamined="HEAD"))
    with pytest.raises(DataError, match=r"Modality .*CT.*--accept modality"):
        prepare("table", root, tmp_path / "out", SMALL, COLUMNS)
    anything = dataclasses.replace(COLUMNS, modality="any")
    assert not prepare("table", root, tmp_path / "any", SMALL, anything)["dropped"]
    assert open_dataset(tmp_path / "any").info["accept"] == ["body-part", "modality"]


def test_the_report_counts_what_was_corrected_in_files(archive, tmp_path):
    for name in ("3.png", "4.png"):
        picture = Image.open(archive / name)
        exif = Image.Exif()
        exif[0x0112] = 3
        picture.save(archive / name, exif=exif)
    report = prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)
    assert report["files"] == {NOTES["orientation-applied"]: 2}
    assert "was turned or mirrored" in (tmp_path / "out" / "report.html").read_text()


def test_a_dataset_of_a_version_with_fewer_options_is_left_as_it_is(archive, tmp_path):
    first = prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)
    stored = json.loads((tmp_path / "out" / "prepare.json").read_text())
    del stored["accept"], stored["source options"]["long"], stored["source options"]["image_key"]
    (tmp_path / "out" / "prepare.json").write_text(json.dumps(stored))
    assert prepare("table", archive, tmp_path / "out", SMALL, COLUMNS) == first


def test_boxes_move_with_the_picture(tmp_path):
    """A white rectangle where the box is: it must be where the box is afterwards."""
    (tmp_path / "a").mkdir()
    case = source_fixtures.build("nih", tmp_path / "a")
    name = "00000003_001.png"
    path = next(case.root.glob(f"*/images/{name}"))
    picture = np.zeros((256, 256), np.uint8)  # resized from 1024: the box 512, 256, 256, 128 is a quarter of that
    picture[64:96, 128:192] = 255
    Image.fromarray(picture).save(path)
    for fit in ("letterbox", "squash"):
        prepare("nih", case.root, tmp_path / fit, PrepareOptions(size=128, fit=fit, workers=1))
        dataset = open_dataset(tmp_path / fit)
        box = dataset.boxes.filter(pl.col("image_id") == name).row(0, named=True)
        image = dataset.images[dataset.manifest.filter(pl.col("image_id") == name)["row"][0]]
        rows, columns = np.nonzero(image > 128)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert [box["x"] * 128, box["y"] * 128, (box["x"] + box["w"]) * 128, (box["y"] + box["h"]) * 128] == edges


def test_boxes_of_a_mirrored_dicom_file_move_with_the_picture(tmp_path):
    """PatientOrientation says that each second picture is mirrored; a bright rectangle is where the box is."""
    root, names = tmp_path / "in", [f"image{number}" for number in range(6)]
    (root / "train").mkdir(parents=True)
    rows = ["image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"]
    for number, name in enumerate(names):
        pixels = np.full((120, 80), 500 + number, np.uint16)
        pixels[0, 0], pixels[20:40, 10:40] = 0, 4000
        direction = ["R" if number % 2 else "L", "F"]
        (root / "train" / f"{name}.dicom").write_bytes(dicom(pixels, PatientOrientation=direction))
        rows += [f"{name},Cardiomegaly,3,R{reader},10,20,40,40" for reader in (1, 2)]
    (root / "train.csv").write_text("\n".join(rows))
    report = prepare("vindr", root, tmp_path / "out", PrepareOptions(size=120, workers=1))
    assert report["files"] == {NOTES["orientation-applied"]: 3}
    dataset = open_dataset(tmp_path / "out")
    boxes = {row["image_id"]: [row[edge] * 120 for edge in "xywh"] for row in dataset.boxes.iter_rows(named=True)}
    for name in names:
        image = dataset.images[dataset.manifest.filter(pl.col("image_id") == name)["row"].item()]
        rows, columns = np.nonzero(image > 200)
        x, y, w, h = boxes[name]
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose([x, y, x + w, y + h], edges, atol=0.01)
    left, right = boxes["image0"][0], boxes["image1"][0]
    assert (left, right) == (pytest.approx(20 + 10), pytest.approx(20 + 80 - 40))  # 20: the letterbox's border


def test_boxes_are_the_same_with_and_without_images(tmp_path):
    (tmp_path / "a").mkdir()
    case = source_fixtures.build("nih", tmp_path / "a")
    prepare("nih", case.root, tmp_path / "labels", PrepareOptions(manifest_only=True))
    prepare("nih", case.root, tmp_path / "images", PrepareOptions(size=64, workers=1))
    left, right = (open_dataset(tmp_path / name).boxes.sort("image_id") for name in ("labels", "images"))
    np.testing.assert_allclose(
        left.drop("image_id", "finding").to_numpy(), right.drop("image_id", "finding").to_numpy()
    )


def test_the_page_needs_nothing_from_outside_and_names_the_dropped(archive, tmp_path):
    (archive / "3.png").write_bytes(b"<script>alert(1)</script>")
    prepare("table", archive, tmp_path / "out", SMALL, COLUMNS)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "3.png" in page and "<script>alert" not in page
    assert 'src="http' not in page and "<link" not in page
    assert_fits(tmp_path / "out" / "report.html")


def test_the_page_says_what_a_finding_without_positives_in_a_split_means(archive, tmp_path):
    table = archive / "labels.csv"
    first, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{first},C", *(f"{row},{int(row.startswith('7.png'))}" for row in rows)]))
    prepare("table", archive, tmp_path / "out", SMALL, Options(finding_columns=("A", "B", "C")))
    manifest = open_dataset(tmp_path / "out").manifest
    (split,) = manifest.filter(pl.col("C") == 1)["split"]
    page = (tmp_path / "out" / "report.html").read_text()
    for other, words in {"train": "cannot be learned", "val": "threshold 0.5", "test": "cannot be evaluated"}.items():
        assert bool(re.search(rf"Without a positive in {other}, [^:]*{words}: [^.]*C", page)) == (other != split)


def test_an_unknown_source_is_named_with_the_known_ones(tmp_path):
    with pytest.raises(RecipeError, match=r"'padchets'.*padchest"):
        prepare("padchets", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("options", [{"size": 0}, {"workers": -1}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(RecipeError, match="give"):
        PrepareOptions(**options)
