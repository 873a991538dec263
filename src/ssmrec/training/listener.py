"""What training tells whoever watches: a progress bar, a logger, a test."""

from __future__ import annotations

import logging
from typing import Any, Self

logger = logging.getLogger("ssmrec")


class Listener:
    """Does nothing but log warnings; override what you want to hear. Listeners are context managers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def phase(self, name: str, epochs: int, device: str) -> None:
        """A training begins: `select` or `refit` or `train`, at most `epochs` long."""

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        """`done` of `total` positives of the epoch are through; `loss` is the mean so far."""

    def epoch(self, record: dict[str, Any], best: bool) -> None:
        """An epoch ended: epoch, loss, seconds, and the watched metric if it was evaluated."""

    def evaluating(self, done: int, total: int) -> None:
        """`done` of `total` users are ranked."""

    def note(self, text: str) -> None:
        """Something the user should read."""

    def warning(self, text: str) -> None:
        """Something that may be wrong. Unlike a note, it is logged where nobody listens."""
        logger.warning(text)
