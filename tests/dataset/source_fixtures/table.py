"""A hospital's own export: one column per finding, semicolons, stems instead of file names, an unlabeled patient."""

from pathlib import Path

from tests.dataset.source_fixtures import Case, radiograph
from trcgl.dataset.sources.table import Options

TABLE = """Accession;PatNo;Proj;Age;Sex;Set;Pneumonia;Nodule;Normal
im00;P-1;PA;58;F;train;1;0;0
im01;P-1;LATERAL;58;F;train;1.0;-1;0
im02;P-2;AP;411;M;;0;1;0
im03;P-3;oblique;071Y;;;0;0;1
im04;P-4;PA;9M;m;test;;1;0
im05;P-5;PA;30;F;;;;
im06;P-6;PA;30;F;;0;0;0
im07;P-7;PA;30;F;;yes;no;0
im07;P-7;PA;30;F;;yes;no;0
im08;;PA;30;F;;1;0;0
im09;P-9;PA;30;F;valid;0;0;1
im10;P-10;PA;30;F;;0;1;0
im11;P-11;PA;30;F;;1;1;0
"""


def build(folder: Path) -> Case:
    """Thirteen rows; the files lie in a tree below the table, one is missing and one is empty."""
    (folder / "export.csv").write_text(TABLE)
    for number in range(12):
        radiograph(folder / "files" / f"p{number % 3}" / f"im{number:02d}.png", (30, 50), seed=number)
    (folder / "files" / "p1" / "im10.png").unlink()
    (folder / "files" / "p2" / "im11.png").write_bytes(b"")
    return Case(
        root=folder,
        options=Options(
            image_column="Accession",
            patient_column="PatNo",
            finding_columns=("Pneumonia", "Nodule", "Normal"),
            normal="Normal",
            view_column="Proj",
            age_column="Age",
            sex_column="Sex",
            split_column="Set",
        ),
        present={
            "im00": {"Pneumonia"},
            "im01": {"Pneumonia"},
            "im02": {"Nodule"},
            "im03": {"Normal"},
            "im04": {"Nodule"},
            "im05": set(),
            "im06": set(),
            "im07": {"Pneumonia"},
            "im09": {"Normal"},
            "im10": {"Nodule"},
            "im11": {"Pneumonia", "Nodule"},
        },
        unknown={"im01": {"Nodule"}, "im04": {"Pneumonia"}, "im05": {"Pneumonia", "Nodule", "Normal"}},
        dropped={"im07": "more than once", "im08": "no patient"},
        unusable={"im10": "no such file", "im11": ""},
        table="export.csv",
        column="PatNo",
        official={"im00": "train", "im01": "train", "im04": "test", "im09": "val"},
    )
