"""The files of `deploy/`, read as text; the script of Orthanc runs in a real Orthanc."""

import json
import re
import shlex
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager

import pytest
import yaml

pytest.importorskip("pynetdicom", reason="needs the extra `dicom-node`")

from tests.documented import ROOT
from tests.model.small_run import study_file, write_run
from tests.serve.nodes import free_port, listens, needs_dcmtk, noded
from tests.serve.serving import until
from trcgl.serve.options import NodeOptions, ServeOptions

DEPLOY = ROOT / "deploy"
DX, SR = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.88.33"
LUA = DEPLOY / "orthanc" / "send_stable_studies.lua"


def options(arguments):
    """Names of the options in a list of arguments, as fields of the settings."""
    return {match[1].replace("-", "_") for match in (re.match(r"--([\w-]+)", word) for word in arguments) if match}


FIELDS = {*vars(NodeOptions()), *vars(ServeOptions())}


def instructions(path):
    """Instruction and argument of each line of a Dockerfile."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def test_the_image_runs_serve_as_another_user_with_a_health_check():
    steps = instructions(DEPLOY / "Dockerfile")
    assert steps[0][0] == "FROM" and ":latest" not in steps[0][1] and ":" in steps[0][1]
    named = dict(steps)
    assert named["USER"] not in ("root", "0")
    assert [name for name, _ in steps].index("USER") > [name for name, _ in steps].index("RUN")
    assert "/healthz" in named["HEALTHCHECK"]
    assert json.loads(named["ENTRYPOINT"])[:2] == ["trcgl", "serve"]
    assert options(json.loads(named["CMD"])) <= FIELDS


def test_the_image_copies_what_the_build_needs():
    copied = " ".join(argument for name, argument in instructions(DEPLOY / "Dockerfile") if name == "COPY").split()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = re.search(r"\.\[([\w,-]+)\]", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))[1].split(",")
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras)
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt", "src"):
        assert name in copied and f"!{name}" in kept and (ROOT / name).exists()


def test_the_compose_file_connects_both_services():
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    services, orthanc = document["services"], json.loads((DEPLOY / "orthanc" / "orthanc.json").read_text())
    command = services["trcgl"]["command"]
    assert options(command) <= FIELDS
    given = dict(word.removeprefix("--").split("=") for word in command)
    settings = {name.replace("-", "_"): value for name, value in given.items()}
    node = NodeOptions(
        **settings | {"dicom_port": int(given["dicom-port"]), "allow_ae": (given["allow-ae"],), "spool": None}
    )
    assert node.destination == (orthanc["DicomAet"], "orthanc", orthanc["DicomPort"])
    assert node.allow_ae == (orthanc["DicomAet"],)
    assert orthanc["DicomModalities"]["trcgl"] == [node.ae_title, "trcgl", node.dicom_port]
    assert (DEPLOY / services["trcgl"]["build"]["context"]).resolve() == ROOT.resolve()
    assert (ROOT / services["trcgl"]["build"]["dockerfile"]).is_file()
    for service in services.values():
        assert "ports" not in service or all(
            port.startswith("127.0.0.1:8042") or port == "4242:4242" for port in service["ports"]
        )
        for volume in service["volumes"]:
            source = re.sub(r"\$\{.*?\}", "model", volume).split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in (*document["volumes"], "model")


def test_the_unit_runs_serve_and_checks_its_health():
    text = (DEPLOY / "trcgl.service").read_text(encoding="utf-8")
    unit = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"\w+=", line))
    assert options(shlex.split(unit["ExecStart"])) <= FIELDS
    assert "/healthz" in unit["ExecStartPost"]
    assert unit["DynamicUser"] == "yes"
    assert unit["SuccessExitStatus"] == "143"


def test_systemd_understands_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    unit = (DEPLOY / "trcgl.service").read_text(encoding="utf-8")
    for program in re.findall(r"^Exec\w+=(\S+)", unit, re.MULTILINE):  # neither need be installed here
        unit = unit.replace(program, "/bin/true")
    (tmp_path / "trcgl.service").write_text(unit)
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / "trcgl.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "trcgl.service" not in done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("node") / "run")


@contextmanager
def orthanc(folder, trcgl_port, dicom_port):
    """Debian's Orthanc with the script and the modality of the compose file: a function for its REST interface."""
    if shutil.which("Orthanc") is None:
        pytest.skip("no Orthanc; on Debian: apt-get install orthanc")
    http_port = free_port()
    settings = json.loads((DEPLOY / "orthanc" / "orthanc.json").read_text()) | {
        "DicomPort": dicom_port,
        "HttpPort": http_port,
        "AuthenticationEnabled": False,
        "StableAge": 1,
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomModalities": {"trcgl": ["TRCGL", "127.0.0.1", trcgl_port]},
        "LuaScripts": [str(LUA)],
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))

    def rest(path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{http_port}{path}", body)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    log = (folder / "orthanc.log").open("w")
    with log, subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log) as process:
        try:
            until(lambda: listens(http_port) and listens(dicom_port))
            yield rest
        finally:
            process.terminate()


@needs_dcmtk
def test_a_stable_study_of_orthanc_comes_back_with_its_report_and_only_once(run, tmp_path):
    port = free_port()
    with (
        noded(run, allow_ae=("ORTHANC",), send_to=f"ORTHANC@127.0.0.1:{port}") as (node, service),
        orthanc(tmp_path, node.dicom_port, port) as rest,
    ):
        for image in (1, 2):
            rest("/instances", study_file(image, 7))
        until(lambda: rest("/statistics")["CountInstances"] == 3)
        assert sorted(_kinds(rest)) == [DX, DX, SR]
        time.sleep(5)  # the report has made the study stable again
        assert rest("/statistics")["CountInstances"] == 3
        assert b'trcgl_studies_total{outcome="scored"} 1.0' in service.metrics.text()
        rest("/instances", study_file(3, 7))
        until(lambda: rest("/statistics")["CountInstances"] == 5)
        assert sorted(_kinds(rest)) == [DX, DX, DX, SR, SR]


def test_a_study_that_trcgl_did_not_accept_is_named_and_not_marked(tmp_path):
    with orthanc(tmp_path, free_port(), free_port()) as rest:
        image = rest("/instances", study_file(1, 7))["ID"]
        until(lambda: "trcgl did not accept study" in (tmp_path / "orthanc.log").read_text())
        assert "1024" not in rest(f"/instances/{image}/metadata")


def _kinds(rest):
    """SOP class of each stored instance."""
    return [rest(f"/instances/{image}/metadata?expand")["SopClassUid"] for image in rest("/instances")]
