"""A registry of classes, and an installed package that offers one."""

import sys

import pytest

from trcgl.core.errors import RecipeError
from trcgl.core.registry import Registry


class Shape: ...


class Square(Shape): ...


class Circle(Shape): ...


def shapes():
    return Registry(Shape, "picture.shape", "trcgl.test_shapes", {"square": Square})


@pytest.fixture
def offer(tmp_path, monkeypatch):
    """Install a package `shapes_package` that offers entry points of the group."""

    def install(entry_points, code):
        info = tmp_path / "shapes_package-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shapes-package\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[trcgl.test_shapes]\n{entry_points}\n")
        (tmp_path / "shapes_package.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_a_registered_class_is_found_and_may_be_replaced():
    registry = shapes()
    registry.register("circle", Circle)
    assert registry["circle"] is Circle and registry.names() == ["square", "circle"]
    registry.register("circle", Square)
    assert registry["circle"] is Square


def test_a_built_in_class_is_not_replaced():
    with pytest.raises(RecipeError, match=r"picture\.shape 'square' is built in\. Register .*Circle under another"):
        shapes().register("square", Circle)


def test_a_class_of_another_kind_is_refused():
    with pytest.raises(RecipeError, match=r"builtins\.dict is not a subclass of .*Shape"):
        shapes().register("dict", dict)


def test_an_unknown_name_gets_a_suggestion_and_every_name():
    with pytest.raises(RecipeError, match=r"unknown picture\.shape 'sqare'\. Did you mean square\? Available: square"):
        shapes()["sqare"]


def test_a_class_of_an_installed_package_is_imported_when_its_name_is_asked_for(offer):
    offer("ring = shapes_package:Ring", f"from {__name__} import Shape\nclass Ring(Shape): ...\n")
    registry = shapes()
    assert registry.names() == ["square", "ring"] and "shapes_package" not in sys.modules
    assert registry["ring"].__name__ == "Ring" and "ring" in registry
    del sys.modules["shapes_package"]


def test_a_package_that_cannot_be_imported_is_named(offer):
    offer("broken = shapes_package:Broken", "raise OSError('no such library')")
    with pytest.raises(RecipeError, match=r"of the package shapes-package cannot be imported \(OSError: no such lib"):
        shapes()["broken"]


def test_a_package_that_offers_another_kind_of_class_is_refused(offer):
    offer("other = shapes_package:Other", "class Other: ...")
    with pytest.raises(RecipeError, match=r"shapes_package\.Other is not a subclass"):
        shapes()["other"]
