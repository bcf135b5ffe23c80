"""Settings of the node that contradict each other are refused before anything is opened."""

import pytest

from trcgl.cli import main as cli
from trcgl.serve.options import NodeOptions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--send-to", "A@b:104"], "--send-to needs studies to score. Give --dicom-port PORT or --watch FOLDER."),
        (["--dicom-port", "0"], "Give --send-to AET@HOST:PORT or --out FOLDER."),
        (["--dicom-port", "70000", "--out", "out"], "--dicom-port lies between"),
        (["--dicom-port", "0", "--send-to", "PACS"], "--send-to PACS: give AET@HOST:PORT"),
        (["--dicom-port", "0", "--send-to", "PACS@host:0"], "give AET@HOST:PORT"),
        (["--dicom-port", "0", "--out", "out", "--dicom-host", "0.0.0.0"], "--allow-ae"),
        (["--dicom-port", "0", "--out", "out", "--ae-title", "LONGER THAN SIXTEEN"], "1 to 16 ASCII characters"),
        (["--dicom-port", "0", "--out", "out", "--spool-files", "0"], "--spool-files 0: give a number above 0"),
        (["--watch", "in", "--out", "in/out"], "--out in/out lies in the watched folder"),
    ],
)
def test_the_contradiction_is_named(arguments, message, capsys):
    assert cli.main(["serve", "gone", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("PACS@10.0.0.5:104", ("PACS", "10.0.0.5", 104)),
        ("MY PACS@pacs.example:11112", ("MY PACS", "pacs.example", 11112)),
        ("A@B@[::1]:104", ("A@B", "::1", 104)),
    ],
)
def test_a_destination_is_title_host_and_port(given, expected):
    assert NodeOptions(dicom_port=0, send_to=given).destination == expected
