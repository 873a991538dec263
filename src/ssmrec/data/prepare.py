"""All that a training run does before the first step: find, read, clean, split."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ssmrec.config import build
from ssmrec.data.clean import Coded, drop_overlap, encode, k_core, merge_duplicates
from ssmrec.data.coded import with_ids
from ssmrec.data.config import DataConfig
from ssmrec.data.folder import files_of_source
from ssmrec.data.formats import is_parquet, pinned
from ssmrec.data.interactions import Interactions, Split
from ssmrec.data.named import Files, files_of
from ssmrec.data.parts import PARTS, tell_left_out
from ssmrec.data.read import FRAME, Source, is_frame, no_rows_left, read_frame
from ssmrec.data.remote import Remote
from ssmrec.data.split import carve, counted, generator, split_by
from ssmrec.data.text import fitting_memory
from ssmrec.errors import ConfigError, DataError

log = logging.getLogger(__name__)

Parts = dict[str, Any]
"""The file or the frame of each part: files alone, or frames alone."""
_HELD = ("valid", "test")


def load(source: Source, config: DataConfig | None = None, **options: Any) -> Interactions:
    """Read everything from one source as one table.

    A folder or a named set gives all its rows: train, valid and test together; `prepare` keeps its
    split. Repeated pairs become one (`duplicates`), and `counts` says how many rows went where.

    Args:
        source: a file, a folder, a pattern of names, the name of a data set, a table of polars, pandas
            or pyarrow (all that has Arrow's C stream), or a sparse matrix of scipy, users by items.
        config: settings, or the same as keyword `options`: `user="customer"`, `min_rating=4` ...

    Raises:
        DataError: the source cannot be read; the message names file, column and row.
        ConfigError: an option is unknown or out of range.
    """
    config, parts = _asked(source, config, options)
    if len(parts) > 1:
        log.warning(
            "%s comes in parts (%s) and load() puts them together; ssmrec.prepare(...) keeps them apart",
            config.source, ", ".join(parts),
        )  # fmt: skip
    frames, counts = _read(parts, config)
    return _together(frames, parts, config, counts)


def prepare(source: DataConfig | Source, seed: int = 0, **options: Any) -> Split:
    """Find, read, clean and split, as `ssmrec train` does: `prepare("ml-100k")`.

    Given files or frames keep their parts: pairs that are in train as well leave the held-out parts (counted
    as `valid_overlap`, `test_overlap`), a k-core counts the rows of all parts, and validation is
    taken out of train where there is no such file: each user's latest rows if there are timestamps,
    else random rows.

    Args:
        source: settings; or what `load` reads: a file, a folder, the name of a data set, a frame.
        seed: decides random splits.
        options: settings beside a source: `user="customer"`, `split={"valid": 0.05}` ...; `test` and
            `valid` are files beside a file, frames beside a frame.

    Returns:
        The split; `counts` holds rows read, dropped by reason, merged, cold and in each part.

    Raises:
        DataError: as `load`, or a part would be empty.
        ConfigError: as `load`, or settings that do not fit each other or the parts.
    """
    generator(seed)  # refused before anything is read
    if isinstance(source, DataConfig):
        config, parts = _asked(source.source, source, options)
    else:
        config, parts = _asked(source, None, options)
    strategy = config.split.strategy
    if strategy == "given" and "test" not in parts:
        raise ConfigError(
            f"data.split.strategy=given needs a test file: set data.test=... beside {config.source!r}, "
            "or choose another data.split.strategy"
        )
    if config.valid and "test" not in parts:
        raise ConfigError(
            "a valid file needs a test file: set data.test=..., or data.split.valid to carve it"
        )
    kept = "test" in parts and config.split.test > 0
    given = strategy == "given" or (strategy == "auto" and kept)
    for reason, keys in idle(config, parts, given).items():
        log.warning("%s, so without effect: %s", reason, ", ".join(keys))
    frames, counts = _read(parts, config)
    if given:
        return _given(frames, parts, config, counts, seed)
    if len(parts) > 1:
        key = "strategy" if config.split.test else "test"
        log.info("data.split.%s=%s splits the rows of %s anew", key, getattr(config.split, key) or 0,
                 ", ".join(parts))  # fmt: skip
    return split_by(_together(frames, parts, config, counts), config.split, seed)


def _asked(
    source: Source, config: DataConfig | None, options: dict[str, Any]
) -> tuple[DataConfig, Parts]:
    """The settings, and the file or the frame of each part. In settings a frame is called `frame`."""
    if config is not None and not isinstance(config, DataConfig):
        raise ConfigError(
            f"config must be a DataConfig, not {type(config).__name__}: give settings by name, as in "
            "min_user=3"
        )
    if config is not None and options:
        raise ConfigError(f"settings beside a DataConfig: put {', '.join(options)} into it")
    held = {key: options[key] for key in _HELD if options.get(key) is not None}
    given = {"source": source, **held}
    frames = {key: part for key, part in given.items() if is_frame(part, key)}
    named = {key: FRAME if key in frames else str(part) for key, part in given.items()}
    settings: DataConfig = (
        build(DataConfig, options | named, "data")
        if config is None
        else config.model_copy(update=named)
    )
    if not frames:
        return settings, files_of(settings)
    for key in ("source", *_HELD):
        if key not in frames and getattr(settings, key) is not None:
            raise ConfigError(
                f"data.{key} is a file, and {' and '.join(frames)} a frame: give frames only, or files only"
            )
    frames["train"] = frames.pop("source")
    return settings, {part: frames[part] for part in PARTS if part in frames}


def _files(parts: Parts) -> Files:
    """The files among the parts."""
    return {part: held for part, held in parts.items() if isinstance(held, (Path, Remote))}


def idle(config: DataConfig, parts: Parts, given: bool) -> dict[str, list[str]]:
    """Settings that are not the defaults and that nothing will read, by the reason.

    Args:
        parts: the file or the frame of each. given: whether they are taken as they are.
    """
    strategy, plain = config.split.strategy, DataConfig()
    files = _files(parts)
    kind = "file" if files else "frame"
    parquet = all(is_parquet(file, config) for file in files.values())
    off = {
        f"the test part is a {kind}": ["split.test"] if given else [],
        f"the valid part is a {kind}": (
            ["split.valid"] if given and "valid" in parts and config.split.valid else []
        ),
        "all parts come from one table": [] if given else ["split.overlap"],
        f"data.split.strategy={strategy}": {
            "last": ["split.test"] if config.split.test else [],
            "random": ["split.ties"],
            "time": ["split.ties"],
        }.get(strategy, []),
        "data.split.cut": ["split.test"] if config.split.cut is not None else [],
        "data.events=[]": [] if config.events else ["event"],
        "Parquet" if files else "no text file": ["delimiter", "header"] if parquet else [],
    }
    changed = {
        reason: [f"data.{key}" for key in keys if attrgetter(key)(config) != attrgetter(key)(plain)]
        for reason, keys in off.items()
    }
    return {reason: keys for reason, keys in changed.items() if keys}


def _read(parts: Parts, config: DataConfig) -> tuple[dict[str, pl.DataFrame], dict[str, int]]:
    """Read each part; with several parts the counts carry the part's name."""
    frames, counts = {}, {}
    if files := _files(parts):
        tell_left_out(files, config.source)
        config = pinned(files_of_source(files["train"])[0], config)
    for part, held in parts.items():
        name = FRAME if part == "train" else f"{part} {FRAME}"
        with fitting_memory(name if is_frame(held, part) else held):
            frames[part], found = read_frame(held, config, name)
        counts |= {f"{part}_{k}" if len(parts) > 1 else k: n for k, n in found.items()}
    return frames, counts


def _taken(frames: dict[str, pl.DataFrame], names: Iterable[str]) -> list[pl.DataFrame]:
    """The frames of these parts, which nobody else holds any longer."""
    return [frames.pop(name) for name in list(names)]


def _together(
    frames: dict[str, pl.DataFrame],
    parts: Parts,
    config: DataConfig,
    counts: dict[str, int],
) -> Interactions:
    coded = with_ids(encode(_taken(frames, frames)), _files(parts))
    coded = Coded(coded.rows.with_columns(part=pl.lit(0, pl.UInt8)), coded.users, coded.items)
    coded, merged = merge_duplicates(coded, config.duplicates, [""])
    coded, dropped = k_core(coded, config)
    counts = {**counts, **merged, **dropped}
    _assert_rows(coded, counts, config)
    return coded.part(0, counts)


def _assert_rows(coded: Coded, counts: dict[str, int], config: DataConfig) -> None:
    if coded.rows.is_empty():
        read = {"rows_read": sum(n for k, n in counts.items() if k.endswith("rows_read"))}
        raise DataError(f"{config.source}: {no_rows_left({**counts, **read}, config)}")


def _given(
    frames: dict[str, pl.DataFrame],
    held: Parts,
    config: DataConfig,
    counts: dict[str, int],
    seed: int,
) -> Split:
    names = [name for name in ("train", "valid", "test") if name in frames]
    coded = with_ids(encode(_taken(frames, names)), _files(held))
    coded, merged = merge_duplicates(coded, config.duplicates, [f"{name}_" for name in names])
    coded, overlap = drop_overlap(coded, config.split.overlap, names)
    coded, dropped = k_core(coded, config)
    counts = {**counts, **merged, **overlap, **dropped}
    _assert_rows(coded, counts, config)
    parts = {name: coded.part(number) for number, name in enumerate(names)}
    if config.split.valid == 0 and "valid" in parts:
        counts["valid_left_out"] = len(parts.pop("valid"))
        log.warning(
            "data.split.valid=0 leaves the valid file out: %d rows", counts["valid_left_out"]
        )
    for name in (name for name in names[1:] if name in parts):
        _assert_known(parts["train"], parts[name], name, overlap[f"{name}_overlap"])
    train, valid = parts["train"], parts.get("valid")
    if config.split.valid > 0 and valid is None:
        train, valid = carve(train, "given", config.split, generator(seed), counts)
    return counted(train, valid, parts["test"], "given", counts)


def _assert_known(train: Interactions, part: Interactions, name: str, overlap: int) -> None:
    """Held-out rows must share users and items with train, else the ids do not belong together."""
    if len(part) == 0:
        raise DataError(
            f"{name} holds no pair that is not in train ({overlap} overlapping dropped)"
        )
    for side, ours, theirs, vocabulary in (
        ("users", train.user_degrees, part.user_degrees, train.users),
        ("items", train.item_degrees, part.item_degrees, train.items),
    ):
        if not ((ours > 0) & (theirs > 0)).any():
            known, held = (
                vocabulary.decode(np.flatnonzero(d)[:2]).to_list() for d in (ours, theirs)
            )
            raise DataError(
                f"{name} ids match no train id (0 of {(theirs > 0).sum()} {side}): train has "
                f"{known} ..., {name} has {held} ...; check the columns, "
                "or set data.ids=str"
            )
