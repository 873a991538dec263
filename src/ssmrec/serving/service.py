"""The questions a service answers, on whichever run is live at the moment of asking.

A question holds on to the run it began with, so swapping in a new one loses none. Ranking happens on
one thread: questions that arrive while it works are ranked together, by one matrix product.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ssmrec.errors import RunError, SsmrecError
from ssmrec.ranking import Choice, Ranker, TopK
from ssmrec.serving.index import Index, facts_of, find
from ssmrec.serving.index import load as load_index
from ssmrec.serving.live import Live
from ssmrec.training.run import CONFIG, FILES, METRICS, MODEL

Array = np.ndarray
logger = logging.getLogger("ssmrec")

TOGETHER = 256
"""Users ranked at once at most; more wait for the next round."""
LONGEST = 512
"""Characters of an id that can be asked for."""


@dataclass(frozen=True)
class Loaded:
    """A run that is being served.

    Args:
        live: model and vectors.
        folder: where it came from.
        version: 12 hex digits over its files.
        stamp: state of the folder when it was read, see `stamp`.
        titles: title of each item, by the text of its id.
        asked: the index that was asked for, see `find`; None for exact ranking.
        index: that index.
    """

    live: Live
    folder: Path
    version: str
    stamp: tuple[Any, ...]
    titles: Mapping[str, str] = field(default_factory=dict)
    asked: str | None = None
    index: Index | None = None
    since: float = field(default_factory=time.time)

    @cached_property
    def item_ids(self) -> list[Any]:
        """External id of each item: for one short list faster than a column."""
        return self.live.ranker.train.items.ids.to_list()

    def top(self, users: Array, choice: Choice) -> TopK:
        """Lists of users by index."""
        if self.index is not None and choice.only is None:
            return self.index.top(self.live.ranker, users, choice)
        return self.live.ranker.top(users, choice)


def stamp(folder: Path, asked: str | None = None) -> tuple[Any, ...]:
    """The state of a run's files, or of those that a link of that name points to, and of the index that is
    asked for; empty while there is no finished run.
    """
    files = [folder / name for name in FILES]
    missing = ""
    if asked is not None:
        try:
            index = find(asked, folder)
            files += [index, facts_of(index)]
        except SsmrecError as error:  # not built yet
            missing = str(error)
    found = [_state(file) for file in files]
    return (str(folder.resolve()), missing, *found) if found[0] else ()


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        told = file.stat()
    except OSError:
        return None
    return told.st_mtime_ns, told.st_size, told.st_ino


def load(
    folder: Path,
    titles: Callable[[Live], Mapping[str, str]] | Mapping[str, str] | None = None,
    index: str | None = None,
) -> Loaded:
    """Read a run and make it ready: everything that the first question would wait for is done.

    Args:
        folder: the run's.
        titles: as in `Loaded`, or what gives them for this run.
        index: what to search by in the place of exact ranking, see `find`.

    Raises:
        RunError: not a finished run, damaged, written anew while it was read, or the index is not its own.
    """
    before = stamp(folder, index)
    live = Live.load(folder)
    version = version_of(folder)
    found = None if index is None else load_index(find(index, folder), live.ranker, version)
    named = titles(live) if callable(titles) else titles or {}
    if stamp(folder, index) != before:
        raise RunError(f"{folder}: was written while it was read")
    loaded = Loaded(live, folder, version, before, named, index, found)
    _tell_long(live.ranker, folder)
    some = live.ranker.find_users(live.ranker.known_users.head(1))
    loaded.top(some, live.ranker.choice(1))
    _ = live.folding, loaded.item_ids  # computed once, here
    live.ranker.similar(live.ranker.train.items.ids.filter(pl.Series(live.ranker.known_items))[:1])
    return loaded


def _tell_long(ranker: Ranker, folder: Path) -> None:
    """Warn of users and items that are listed and cannot be asked for."""
    items = ranker.train.items.ids.filter(pl.Series(ranker.known_items))
    users, items = (
        int((ids.str.len_chars() > LONGEST).sum()) if ids.dtype == pl.String else 0
        for ids in (ranker.known_users, items)
    )
    if users or items:
        logger.warning(
            "%s: %d users and %d items have ids of more than %d characters, which cannot be asked for",
            folder, users, items, LONGEST,
        )  # fmt: skip


def version_of(folder: Path) -> str:
    """12 hex digits over the files of a run."""
    digest = hashlib.sha256()
    for name in (CONFIG, METRICS, MODEL):
        with open(folder / name, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


@dataclass(eq=False)
class _Asked:
    loaded: Loaded
    users: Array
    choice: Choice
    answer: asyncio.Future[TopK]

    @property
    def group(self) -> tuple[int, ...]:
        """Questions with the same group can be ranked together; filters stay alone."""
        plain = self.choice.allowed is self.loaded.live.ranker.known_items
        alone = not plain or self.choice.only is not None
        return (id(self.loaded), int(self.choice.include_seen), id(self) if alone else 0)


class Service:
    """One live run and the thread that ranks.

    Args:
        loaded: what to serve first.
        read: reads a folder for `swap`.
        together: told of the number of users ranked at once.
    """

    def __init__(
        self,
        loaded: Loaded,
        read: Callable[[Path], Loaded] = load,
        together: Callable[[int], None] = lambda users: None,
    ) -> None:
        self.loaded, self.read, self.together = loaded, read, together
        self.swaps = self.failures = 0
        self._thread = ThreadPoolExecutor(1, "ranking")
        self._aside = ThreadPoolExecutor(1, "explaining")
        self._waiting: list[_Asked] = []
        self._drain: asyncio.Task[None] | None = None
        self._looked, self._gone = loaded.stamp, False

    async def top(self, loaded: Loaded, users: Array, choice: Choice) -> TopK:
        """Lists of users by index, ranked together with the questions of others."""
        loop = asyncio.get_running_loop()
        asked = _Asked(loaded, users, choice, loop.create_future())
        self._waiting.append(asked)
        if self._drain is None or self._drain.done():
            self._drain = loop.create_task(self._rank_waiting())
        return await asked.answer

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Other work on the ranking thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def run_aside(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Work that takes long, one after the other; ranking does not wait for it."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, work, *arguments)

    def swap(self, folder: Path) -> Loaded:
        """Serve another run from now on; questions begun before end on the old one.

        Raises:
            RunError: the folder cannot be served; the old run stays.
        """
        loaded = self.read(folder)
        self.swaps += 1  # before: whoever sees the new run sees it counted
        self.loaded = loaded
        logger.info("%s: run %s is live", folder, self.loaded.version)
        return self.loaded

    def look(self) -> bool:
        """Swap if what is in the folder has changed since the last look; whether it did.

        What cannot be served is told once, and the live run stays.
        """
        now = stamp(self.loaded.folder, self.loaded.asked)
        again, self._looked = now == self._looked, now
        if not now:
            if again and not self._gone:  # longer than a run is gone that is being replaced
                self._failed(f"{self.loaded.folder}: no finished run is there")
            self._gone = again
            return False
        self._gone = False
        if again or now == self.loaded.stamp:
            return False
        try:
            self.swap(self.loaded.folder)
        except Exception as error:  # whatever is wrong with it, the live one goes on
            self._failed(error)
            return False
        return True

    def _failed(self, why: object) -> None:
        self.failures += 1
        logger.error("not served, run %s stays live: %s", self.loaded.version, why)

    async def _rank_waiting(self) -> None:
        while self._waiting:
            first = self._waiting[0].group
            chosen, users = [], 0
            for asked in self._waiting:
                if asked.group == first and (not chosen or users + len(asked.users) <= TOGETHER):
                    chosen.append(asked)
                    users += len(asked.users)
            taken = {id(asked) for asked in chosen}
            self._waiting = [asked for asked in self._waiting if id(asked) not in taken]
            self.together(users)
            try:
                answers = await self.run(_together, chosen)
            except Exception as error:
                for asked in chosen:
                    if not asked.answer.done():
                        asked.answer.set_exception(error)
                continue
            for asked, answer in zip(chosen, answers, strict=True):
                if not asked.answer.done():  # its client may have left
                    asked.answer.set_result(answer)


def _together(questions: list[_Asked]) -> Iterable[TopK]:
    """One ranking for all, to the longest list asked for; a shorter list is its beginning."""
    first = questions[0]
    k = max(asked.choice.k for asked in questions)
    users = np.concatenate([asked.users for asked in questions])
    choice = Choice(k, first.choice.allowed, first.choice.include_seen, first.choice.only)
    lists = first.loaded.top(users, choice)
    bounds = np.cumsum([len(asked.users) for asked in questions])[:-1]
    parts = zip(np.split(lists.ids, bounds), np.split(lists.scores, bounds), strict=True)
    return [
        TopK(ids[:, : asked.choice.k], scores[:, : asked.choice.k])
        for asked, (ids, scores) in zip(questions, parts, strict=True)
    ]
