import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice

import pytest

from trcgl.core.prefetch import map_ahead


def test_results_come_in_order_and_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for item in count():
            taken.append(item)
            yield item

    with ThreadPoolExecutor(2) as pool:
        results = map_ahead(pool, lambda item: item * item, items(), ahead=3)
        assert list(islice(results, 5)) == [0, 1, 4, 9, 16]
    assert len(taken) == 5 + 3


def test_items_are_worked_on_side_by_side():
    together = threading.Barrier(2, timeout=20)
    with ThreadPoolExecutor(2) as pool:
        assert len(list(map_ahead(pool, lambda _: together.wait(), range(4), ahead=1))) == 4


def test_a_failure_reaches_the_caller_at_its_place():
    with ThreadPoolExecutor(1) as pool:
        results = map_ahead(pool, lambda item: 1 // item, [1, 0, 1], ahead=2)
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
