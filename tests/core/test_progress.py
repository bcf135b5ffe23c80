"""Progress that a person can read, on a terminal and in a log."""

import io
import sys

import pytest

from trcgl.core import progress
from trcgl.core.progress import track


@pytest.fixture
def clock(monkeypatch):
    """A clock that each item moves by `step` seconds."""

    class Clock:
        now, step = 0.0, 1.0

        def monotonic(self):
            return self.now

        def work(self, items):
            for item in items:
                self.now += self.step
                yield item

    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock.monotonic)
    return clock


def test_items_come_through_unchanged_and_in_order():
    assert list(track(iter("abc"))) == ["a", "b", "c"]


def test_short_work_says_nothing(clock, capsys):
    clock.step = 0.001
    list(track(clock.work(range(500)), total=500, what="reading"))
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


def test_long_work_tells_a_log_how_far_it_is_and_what_is_left(clock, capsys):
    list(track(clock.work(range(60)), total=60, what="reading radiographs"))
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert 5 <= len(lines) <= 6
    assert lines[0].startswith("reading radiographs: ")
    assert all(" of 60, about " in line and line.endswith(" s left") for line in lines)


def test_work_of_unknown_length_is_counted(clock, capsys):
    list(track(clock.work(range(25)), what="reading"))
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["reading", "reading"]


def test_a_unit_adds_how_many_there_are_in_a_second(clock, capsys):
    clock.step = 0.25
    list(track(clock.work(range(100)), total=100, what="sampling", unit="images"))
    assert capsys.readouterr().err.splitlines()[0] == "sampling: 40 of 100, 4 images/s, about 15 s left"


def test_hours_and_minutes_are_shown_as_such(clock, capsys):
    clock.step = 30
    list(track(clock.work(range(300)), total=300, what="training"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[100].endswith("left") and " 1 h " in lines[100] and lines[-4].endswith(" min 30 s left")


def test_a_bar_shows_the_rate_too(clock, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    clock.step = 0.5
    list(track(clock.work(range(10)), total=10, what="sampling", unit="images"))
    assert "2 images/s" in terminal.getvalue()


def test_a_terminal_gets_a_bar(clock, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    list(track(clock.work(range(10)), total=10, what="reading"))
    assert "reading" in terminal.getvalue()
    assert "10/10" in terminal.getvalue()


def test_work_that_fails_leaves_the_terminal_usable(clock, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def fail():
        yield from clock.work(range(5))
        raise ValueError("broken")

    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(ValueError, match="broken"):
        list(track(fail(), total=9))
    assert list(track(range(2))) == [0, 1]
