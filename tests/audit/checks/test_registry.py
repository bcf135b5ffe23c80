"""Every registered check keeps the contract of `Check`."""

import dataclasses
import json
import pkgutil
import shutil
import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from tests.audit.small_audit import write_small
from trcgl.audit import checks
from trcgl.audit.audit import audit
from trcgl.audit.check import Verdict
from trcgl.audit.checks import CHECKS
from trcgl.audit.options import AuditOptions
from trcgl.audit.report import environment
from trcgl.audit.stored import read_audit
from trcgl.core.storage import write_json

OPTIONS = {"each": 12, "sweep_each": 2, "handwritten_each": 3, "features": ("thumbnail",), "held_out": "test"}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def result(small):
    return audit(small.synthetic, small.dataset, small.auditor, options=AuditOptions(**OPTIONS))


def test_keys_are_the_names_of_the_modules_and_differ():
    keys = [check.key for check in CHECKS]
    assert len(set(keys)) == len(keys)
    for check in CHECKS:
        assert import_module(f"{checks.__name__}.{check.key}").CHECK is check


def test_every_module_of_checks_is_found_and_none_has_the_place_of_another():
    assert {module.name for module in pkgutil.iter_modules(checks.__path__)} == {check.key for check in CHECKS}
    orders = [check.order for check in CHECKS]
    assert orders == sorted(set(orders))


def test_a_file_in_the_package_is_a_check(tmp_path):
    """The page needs its template beside it, and nothing else."""
    package = tmp_path / "checks"
    shutil.copytree(checks.__path__[0], package, ignore=shutil.ignore_patterns("__pycache__"))
    check = "from trcgl.audit.check import Check\nCHECK = Check('added', 15, 'Added', 'none', lambda *_: {})\n"
    (package / "added.py").write_text(check)
    spec = spec_from_file_location("checks_with_another", package / "__init__.py")
    found = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, found)
        spec.loader.exec_module(found)
    assert [check.key for check in found.CHECKS if check.key == "added" or check.order < 30] == [
        "label_fidelity",
        "added",
        "ceiling",
    ]
    assert len(found.CHECKS) == len(CHECKS) + 1


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.key)
def test_a_check_has_a_title_a_null_and_a_result(check):
    assert check.title and check.null
    assert check.of_finding or check.of_all


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.key)
def test_the_template_shows_every_result_that_the_check_gives(check):
    fragment = environment().get_template(check.template).module
    assert hasattr(fragment, "finding") == (check.of_finding is not None)
    assert hasattr(fragment, "overall") == (check.of_all is not None)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.key)
def test_results_are_plain_json_under_the_key_of_the_check(check, result):
    stored = json.loads(json.dumps(result, allow_nan=False))
    assert (check.key in stored["overall"]) == (check.of_all is not None)
    for finding in stored["findings"].values():
        assert (check.key in finding) == (check.of_finding is not None)


@pytest.mark.parametrize("check", [check for check in CHECKS if check.verdict], ids=lambda check: check.key)
def test_a_verdict_keeps_earlier_cautions(check, result):
    for finding in result["findings"].values():
        before = Verdict("pass", "because", ("Earlier.",))
        if finding[check.key]:
            assert check.verdict(finding[check.key], before).cautions[0] == "Earlier."


def test_an_audit_of_0_1_0_is_read_under_the_present_names(result, tmp_path):
    """Names and layout that 0.1.0 wrote."""

    def old(value):
        names = {"synthetic": "drawn", "n_synthetic": "n_drawn", "real_or_synthetic": "real_or_drawn"}
        names |= {"representable": "drawable", "sampling": "drawing", "synthetic_without": "drawn_without"}
        if isinstance(value, dict):
            return {names.get(name, name): old(content) for name, content in value.items()}
        return [old(content) for content in value] if isinstance(value, list) else value

    stored = old(json.loads(json.dumps({**result, "synthetic": None}))) | {"schema": "trcgl.audit/1"}
    stored["synthetic"] = stored.pop("drawn")
    overall = stored["overall"]
    stored["autoencoder"], stored["shortcut"] = overall.pop("ceiling"), overall.pop("shortcut")
    stored["handwritten"], stored["guidance"] = overall.pop("context_tokens"), overall.pop("guidance")
    stored["findings"]["Edema"]["verdict"]["word"] = "not drawable"
    write_json(tmp_path / "audit.json", stored)
    expected = json.loads(json.dumps({**result, "synthetic": None}))
    expected["findings"]["Edema"]["verdict"]["word"] = "not representable"
    assert read_audit(tmp_path / "audit.json") == expected


def test_options_are_stored(result):
    assert set(result["options"]) == {field.name for field in dataclasses.fields(AuditOptions)}
