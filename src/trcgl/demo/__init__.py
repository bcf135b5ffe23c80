"""`trcgl demo`: the guided tour on rendered phantoms, on a laptop CPU, in minutes."""

from trcgl.demo.tour import DemoSize, demo

__all__ = ["DemoSize", "demo"]
