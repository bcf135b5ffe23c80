"""Progress on stderr: a bar with the remaining time on a terminal, else a line every ten seconds."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")

QUIET_SECONDS = 2.0
LINE_SECONDS = 10.0


def track(items: Iterable[Item], total: int | None = None, what: str = "", unit: str = "") -> Iterator[Item]:
    """Yield the items and show progress; work that ends within two seconds shows nothing.

    Args:
        items: the items.
        total: number of items; default: `len(items)` if it is known.
        what: name of the work.
        unit: plural noun, for instance "images"; with it the rate per second is shown.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    show = _bar if sys.stderr.isatty() else _lines
    yield from show(items, total, what, unit)


def _bar(items: Iterable[Item], total: int | None, what: str, unit: str) -> Iterator[Item]:
    from rich import progress
    from rich.console import Console

    columns: list[progress.ProgressColumn] = [progress.TextColumn("{task.description}"), progress.BarColumn()]
    columns += [progress.MofNCompleteColumn(), progress.TimeElapsedColumn(), progress.TimeRemainingColumn()]
    columns += [progress.TextColumn("{task.fields[rate]}")] if unit else []
    started = time.monotonic()
    bar = progress.Progress(*columns, console=Console(stderr=True), transient=False)
    task = bar.add_task(what, total=total, rate="")
    try:
        for done, item in enumerate(items, start=1):
            yield item
            passed = time.monotonic() - started
            bar.update(task, advance=1, rate=_rate(done, passed, unit))
            if not bar.live.is_started and passed > QUIET_SECONDS:
                bar.start()
    finally:
        if bar.live.is_started:
            bar.stop()


def _lines(items: Iterable[Item], total: int | None, what: str, unit: str) -> Iterator[Item]:
    started = time.monotonic()
    due = started + LINE_SECONDS
    for done, item in enumerate(items, start=1):
        yield item
        if (now := time.monotonic()) >= due:
            # The first items wait for the workers to start: an estimate from them would be far too long.
            known = total is not None and 100 * done > total
            left = f", about {spell((now - started) / done * (total - done))} left" if total and known else ""
            rate = f", {_rate(done, now - started, unit)}" if unit else ""
            print(f"{what}: {done}{f' of {total}' if total else ''}{rate}{left}", file=sys.stderr, flush=True)
            due = now + LINE_SECONDS


def _rate(done: int, seconds: float, unit: str) -> str:
    return f"{done / max(seconds, 1e-9):.3g} {unit}/s"


def spell(seconds: float) -> str:
    """A duration as text, for instance `2 h 05 min`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
