"""Data sets by name: what they are, and where they may lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ssmrec.config import nearest
from ssmrec.data.config import DataConfig
from ssmrec.data.folder import files_of_source, is_pattern
from ssmrec.data.parts import PARTS, has_train, part_file, parts_of
from ssmrec.data.remote import Remote, assert_there, located, parts
from ssmrec.data.sniff import SUFFIXES
from ssmrec.data.titles import read_titles
from ssmrec.errors import DataError

BUNDLED = Path(__file__).parent / "bundled"
Files = dict[str, Path | Remote]
"""The file, folder, pattern or address of each part."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a public source.

    Args:
        name: what to call it in the folder.
        url: where it is.
        checksum: `sha256:<hex>` or `git:<hex>` (the blob id that git gives to the content).
    """

    name: str
    url: str
    checksum: str


@dataclass(frozen=True)
class NamedSet:
    """Facts of a data set: users, items and pairs of all parts, licence, and how to get it.

    "no copies" in a licence: it may be used but not passed on.
    """

    users: int
    items: int
    pairs: int
    licence: str
    by_hand: str
    files: tuple[RemoteFile, ...] = ()


def _github(repository: str, *files: tuple[str, str, str]) -> tuple[RemoteFile, ...]:
    base = f"https://raw.githubusercontent.com/{repository}"
    return tuple(RemoteFile(name, f"{base}/{path}", f"git:{blob}") for name, path, blob in files)


_REVIEWS = "none stated"
_GROUPLENS = "research, no copies"
_ULTRAGCN = "{} of github.com/xue-pai/UltraGCN as train.txt and test.txt"
_IR = "{} of github.com/Tiny-Snow/IR-Benchmark-Dataset (iid split) as train.* and test.*"

NAMED: dict[str, NamedSet] = {
    "online-retail": NamedSet(4334, 3659, 266221, "CC BY 4.0", "bundled with ssmrec"),
    "movietweetings-40k": NamedSet(
        9063, 6798, 40000, "MIT",
        "snapshots/40K/ratings.dat of github.com/sidooms/MovieTweetings, split into train.* and "
        "test.*",
    ),
    "gowalla": NamedSet(
        29858, 40981, 1027370, "none stated",
        "Data/gowalla of github.com/kuandeng/LightGCN",
        _github(
            "kuandeng/LightGCN/master",
            ("train.txt", "Data/gowalla/train.txt", "a27782bd7a1d4d0744148dc0460ea94da74763f2"),
            ("test.txt", "Data/gowalla/test.txt", "9ed5af4b5d21511f33740b4e22e3852f45671800"),
        ),
    ),
    "yelp2018": NamedSet(
        31668, 38048, 1561406, "academic, no copies",
        "Data/yelp2018 of github.com/kuandeng/LightGCN",
        _github(
            "kuandeng/LightGCN/master",
            ("train.txt", "Data/yelp2018/train.txt", "cda12361055ba448ae4bd1070f6000c16dea8f22"),
            ("test.txt", "Data/yelp2018/test.txt", "30dfbc3437b27b74cb2970b435a5ec93ad9f2468"),
        ),
    ),
    "amazon-book": NamedSet(
        52643, 91599, 2984108, _REVIEWS,
        "dataset/amazon-book.train and .test of github.com/wujcan/SSM-TensorFlow",
        _github(
            "wujcan/SSM-TensorFlow/HEAD",
            ("train.txt", "dataset/amazon-book.train", "d47f4fd6706339628490f347ed5bcdfeb5bd967d"),
            ("test.txt", "dataset/amazon-book.test", "0390ec537ffd6b6c6da7e7a79897f9acae91f02b"),
        ),
    ),
    "ifashion": NamedSet(
        300000, 81614, 1607813, "none stated",
        "dataset/ifashion.train and .test of github.com/wujcan/SSM-TensorFlow",
        _github(
            "wujcan/SSM-TensorFlow/HEAD",
            ("train.txt", "dataset/ifashion.train", "1f04345e7fbabb9f2704aa6701e7fa4e7207ae5e"),
            ("test.txt", "dataset/ifashion.test", "c73b50f69eea817c25f07785738d7e81d3f99be8"),
        ),
    ),
    "amazon-book-partial": NamedSet(
        52643, 91562, 1471104, _REVIEWS, "incomplete: 36 % of amazon-book's train; use amazon-book",
    ),
    "ifashion-partial": NamedSet(
        277851, 64194, 722272, "none stated",
        "incomplete: 29 % of ifashion's train; use ifashion",
    ),
    "amazon-book-kgat": NamedSet(
        70679, 24915, 846434, _REVIEWS,
        "Data/amazon-book of github.com/xiangwang1223/knowledge_graph_attention_network",
    ),
    "amazon-cds": NamedSet(43169, 35648, 777426, _REVIEWS, _ULTRAGCN.format("data/amazoncds")),
    "amazon-electronic": NamedSet(
        13455, 8360, 234521, _REVIEWS, _IR.format("data_iid/amazon2014-electronic/proc.zip")
    ),
    "amazon-movie": NamedSet(
        26968, 18563, 762957, _REVIEWS, _IR.format("data_iid/amazon2014-movie/proc.zip")
    ),
    "ml-100k": NamedSet(
        943, 1682, 100000, _GROUPLENS,
        "ua.base and ua.test of files.grouplens.org/datasets/movielens/ml-100k.zip as train.tsv "
        "and test.tsv",
    ),
    "ml-1m": NamedSet(6022, 3043, 995154, _GROUPLENS, _ULTRAGCN.format("data/ml-1m")),
    "ml-1m-time": NamedSet(
        6038, 3533, 575281, _GROUPLENS,
        "ratings of 4 and 5 in ratings.dat of files.grouplens.org/datasets/movielens/ml-1m.zip, "
        "each user's latest 20 % as test.*, the rest as train.*",
    ),
    "lastfm": NamedSet(
        1880, 4489, 52668, "non-commercial",
        "data/lastfm/data1.txt and test1.txt of github.com/gusye1234/LightGCN-PyTorch as train.txt "
        "and test.txt",
    ),
    "lastfm-hetrec": NamedSet(
        1892, 17632, 92834, "non-commercial",
        "user_artists.dat of grouplens.org/datasets/hetrec-2011, split into train.* and test.*",
    ),
}  # fmt: skip


def cache() -> Path:
    """The user's folder for downloaded sets."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ssmrec" / "data"


def search(name: str) -> Path | None:
    """The folder of a named set with a train file in it, or None.

    Looked for in $SSMREC_DATA, the user's cache, then the sets that come with the package.
    """
    own = os.environ.get("SSMREC_DATA")
    for base in [*([Path(own)] if own else []), cache(), BUNDLED]:
        if has_train(base / name):
            return base / name
    return None


def find(name: str) -> Path:
    """The folder of a named set.

    Raises:
        DataError: it is nowhere; the message says how to get it and where to put it.
    """
    folder = search(name)
    if folder:
        return folder
    if name not in NAMED:
        raise DataError(f"no file, folder or data set {name!r}{nearest(name, NAMED)}")
    get = f"run `ssmrec data fetch {name}`, or " if NAMED[name].files else ""
    raise DataError(
        f"data set {name} is not here: {get}put its files (train.*, test.*) into {cache() / name}; "
        f"source: {NAMED[name].by_hand}"
    )


def locate(config: DataConfig) -> Files:
    """The file of each part: train, and valid and test where there are any.

    A name of a set goes before a folder of the same name; write `./name` for the folder.

    Raises:
        DataError: the source is neither a file, a folder, a pattern of names nor a known name, or
            the system refuses to look.
    """
    try:
        return _located(config)
    except (OSError, RuntimeError, ValueError) as error:  # ~nobody, a zero byte, no permission
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{config.source!r}: cannot be looked up ({reason})") from None


def _located(config: DataConfig) -> Files:
    for key in ("source", "test", "valid"):
        if (path := getattr(config, key)) is not None and not path.strip():
            raise DataError(f"data.{key} is empty: name a file, or leave it out")
    source = located(config.source)
    if isinstance(source, Remote):
        files: Files = {**(parts(source, PARTS) or {"train": source})}
    else:
        files = _near_files(source, config)
    asked = {"valid": config.valid, "test": config.test}
    files |= {part: located(path) for part, path in asked.items() if path}
    return {part: files[part] for part in PARTS if part in files}


def _near_files(source: Path, config: DataConfig) -> Files:
    looks_like_path = source.suffix in SUFFIXES or len(source.parts) > 1 or "/" in config.source
    looks_like_path = looks_like_path or is_pattern(source)
    if config.source in NAMED or not (source.exists() or looks_like_path):
        source = find(config.source)
    if source.is_dir():
        return {**(parts_of(source) or {"train": source})}
    return {"train": source}


def files_of(config: DataConfig) -> Files:
    """As `locate`, and all files are there, so that none is missed after others have been read.

    A part that is a folder or a pattern of names stands as it is; it has a file at least.

    Raises:
        DataError: as `locate`, or a file does not exist.
    """
    files = locate(config)
    for path in files.values():
        if isinstance(path, Remote):
            assert_there(path)
            continue
        try:
            for file in files_of_source(path):
                file.stat()
        except FileNotFoundError:
            raise DataError(f"{path}: no such file") from None
        except (OSError, ValueError):  # the reader tells what is wrong
            continue
    return files


def item_titles(source: str | Path, item: str | int | None = None) -> pl.DataFrame | None:
    """Titles of the items of a named set or folder, from its items.* file.

    Returns:
        As `read_titles`; None where there is no such file.
    """
    place = located(str(source))
    near = isinstance(place, Path) and place.is_dir() and str(source) not in NAMED
    folder = place if near else search(str(source))
    file = part_file(folder, "items") if isinstance(folder, Path) else None
    return None if file is None else read_titles(file, item)
