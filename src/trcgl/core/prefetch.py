"""Work that is done ahead of the one who waits for it."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Generator[Result, None, None]:
    """What a pool makes of every item, in order; unlike `Executor.map` items are taken as they are needed.

    Args:
        pool: does the work.
        function: the work.
        items: may be endless.
        ahead: items in work, or done, beyond the one that the caller has.
    """
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
