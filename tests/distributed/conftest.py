"""Two, or four, processes that stay for all tests of the room."""

from __future__ import annotations

import pytest

from processes import Processes


@pytest.fixture(scope="session")
def pair():
    """`pair.run(job, ...)`: what the job gives in each of two processes."""
    processes = Processes(2)
    yield processes
    processes.close()


@pytest.fixture(scope="session")
def four():
    processes = Processes(4)
    yield processes
    processes.close()
