"""Which files of a folder are its train, validation and test part, or its only interactions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from ssmrec.data.remote import Remote, located
from ssmrec.data.sniff import SUFFIXES
from ssmrec.errors import DataError

log = logging.getLogger(__name__)

PARTS = ("train", "valid", "test")
TITLES = "items"
"""Files of this name beside the rows hold the titles of the items."""
_ATOMIC = (".item", ".user", ".kg", ".link", ".net")
"""What RecBole puts beside `NAME.inter`: all but the interactions."""
_NAME_THEM = "name the files that count, such as"


def parts_of(folder: Path) -> dict[str, Path]:
    """The file of each part in a folder: `train.*`, `valid.*` and `test.*`, or those of one `NAME.train.*`.

    Of a data set of RecBole that is not divided, train is its `.inter` file.

    Returns:
        Nothing where the files are one table; else train, and valid and test where there are any.

    Raises:
        DataError: held-out parts without train, parts of several names, or some parts and other tables.
    """
    files = _files(folder, "")
    names = () if files else _names(folder)
    if len(names) > 1:
        several = [_files(folder, f"{name}.") for name in names[:2]]
        examples = " and ".join(next(iter(files.values())).name for files in several)
        best = max(several, key=lambda files: ("train" in files, len(files)))
        raise DataError(
            f"{folder}: holds parts of several data sets, such as {examples}: give each a folder of its "
            f"own, or {_NAME_THEM} {_named(best)}"
        )
    if names:
        files = _files(folder, f"{names[0]}.")
    if files and "train" not in files:
        train, held = f"{names[0]}.train" if names else "train", next(iter(files.values()))
        raise DataError(
            f"{folder}: the folder has no train file beside {held.name}: add {train}.* "
            f"({', '.join(SUFFIXES)}), or {_NAME_THEM} {held}"
        )
    if names and "test" not in files and (other := _other_table(folder, files)):
        raise DataError(
            f"{folder}: {other} lies beside {files['train'].name}, and there is no {names[0]}.test.*: move "
            f"it, or {_NAME_THEM} {_named(files)}"
        )
    return files or _interactions(folder)


def has_train(folder: Path) -> bool:
    """Whether a folder has a train file, alone or of one name among others."""
    names = ("", *(f"{name}." for name in _names(folder)))
    return any(part_file(folder, f"{name}train") for name in names) or bool(_interactions(folder))


def part_file(folder: Path, part: str) -> Path | None:
    """The file of a part in a folder, such as train.parquet or train.txt, or its folder of files."""
    places = [folder / f"{part}{suffix}" for suffix in SUFFIXES]
    found = next((place for place in places if place.is_file()), None)
    return found or next((place for place in [folder / part, *places] if place.is_dir()), None)


def without_suffix(name: str) -> str:
    """The name of a file without what says that it is a table: `toy.train` of `toy.train.csv.gz`."""
    fitting = (suffix for suffix in SUFFIXES if name.endswith(suffix))
    return name.removesuffix(max(fitting, key=len, default=""))


def assert_one_table(places: Iterable[Path]) -> None:
    """Refuse files and folders of which one is train and another its held-out part."""
    stems = {place.with_name(without_suffix(place.name)): place for place in sorted(places)}
    for stem, place in stems.items():
        name, dot, part = stem.name.rpartition(".")
        train = stems.get(stem.with_name(f"{name}{dot}train"))
        if part in PARTS[1:] and "=" not in name and train:
            raise DataError(
                f"{place}: is the {part} part beside {train}, and one table would mix them: give their "
                f"folder as the source, or {_NAME_THEM} {train}"
            )


def tell_left_out(files: Mapping[str, Path | Remote], source: str) -> None:
    """Warn of the tables beside the parts of a folder that are none; titles and hidden files are none."""
    train = files["train"]
    if isinstance(train, Remote) or train == located(source):
        return  # not chosen among the files of a folder
    known = {path.resolve() for path in files.values() if isinstance(path, Path)}
    for path in sorted(train.parent.iterdir()):
        told = path.name.endswith((*SUFFIXES, *_ATOMIC)) and not _no_rows(path)
        if told and path.resolve() not in known:
            log.warning("%s: left out, as %s is beside it", path, train.name)


def _files(folder: Path, prefix: str) -> dict[str, Path]:
    return {part: file for part in PARTS if (file := part_file(folder, prefix + part))}


def _names(folder: Path) -> list[str]:
    """Each NAME of which the folder holds a part, as `toy` of `toy.test.inter`; a key as in `day=1` is none."""
    found = set()
    for path in folder.iterdir() if folder.is_dir() else ():
        name, _, part = without_suffix(path.name).rpartition(".")
        table = path.is_dir() or (path.is_file() and path.name.endswith(SUFFIXES))
        if name and part in PARTS and table and "=" not in name and not _no_rows(path):
            found.add(name)
    return sorted(found)


def _no_rows(path: Path) -> bool:
    """Whether a file is hidden or holds titles."""
    return path.name[0] in "._" or path.name.split(".")[0] == TITLES


def _tables(folder: Path) -> list[Path]:
    """Files with rows in a folder and its folders, by their paths within it."""
    tables = (p for p in folder.rglob("*") if p.name.endswith(SUFFIXES) and p.is_file())
    within = (p.relative_to(folder) for p in tables if p.stat().st_size)
    shown = (p for p in within if not any(part[0] in "._" for part in p.parts))
    return sorted(p for p in shown if len(p.parts) > 1 or not _no_rows(p))


def _other_table(folder: Path, files: Mapping[str, Path]) -> Path | None:
    """A table that is none of the parts and in none of them."""
    own = {file.name for file in files.values()}
    return next((path for path in _tables(folder) if path.parts[0] not in own), None)


def _interactions(folder: Path) -> dict[str, Path]:
    """As train the `.inter` file that is the only table, and beside which lie others of RecBole by its name."""
    found = [p for p in folder.glob("*.inter*") if p.is_file() and not _no_rows(p)]
    if len(found) != 1 or _tables(folder) != [found[0].relative_to(folder)]:
        return {}
    stem = without_suffix(found[0].name)
    beside = any((folder / f"{stem}{suffix}").is_file() for suffix in _ATOMIC)
    return {"train": found[0]} if beside else {}


def _named(files: Mapping[str, Path]) -> str:
    """How to ask for files by name: a source, and data.valid and data.test."""
    first, *held = files
    asked = " and ".join(f"data.{part}={files[part]}" for part in held)
    return f"{files[first]} with {asked}" if held else str(files[first])
