"""The batches of an epoch with their negatives, drawn on the CPU while a GPU is at the step before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numba

Part = TypeVar("Part")
Made = TypeVar("Made")


def fed(parts: Iterable[Part], make: Callable[[Part], Made], ahead: bool) -> Iterator[Made]:
    """`make` of each part in order; with `ahead` the next one is made in a thread beside the reader.

    One thread makes all of them, so random draws come in the same order either way. `make` may not use
    what the reader changes. Without `ahead` each is made when it is asked for.
    """
    if not ahead:
        yield from map(make, parts)
        return
    waiting: deque[Future[Made]] = deque()
    # Numba's number of threads is each thread's own, and a new one starts with all there are.
    mine = numba.set_num_threads, (numba.get_num_threads(),)
    with ThreadPoolExecutor(1, "ssmrec-feed", *mine) as thread:
        for part in parts:
            waiting.append(thread.submit(make, part))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
