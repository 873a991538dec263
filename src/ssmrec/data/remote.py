"""Addresses of files in an object store or on a web server; polars reads them, as the environment permits."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import polars as pl

from ssmrec.data.sniff import PARQUET, SUFFIXES, WHOLE_LINE
from ssmrec.errors import DataError

_AZURE = "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
_ASKED = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, of another store, AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS", "az": _AZURE, "abfss": _AZURE,
}  # fmt: skip
"""Variables of the environment that a store asks for, by the scheme of its addresses."""
_WEB = ("http", "https")
_KEY = r"[^/]*@|[^/]*:(?!\d+/).*@"
"""Who asks, before the place, and a key that may hold a / itself; not the port of a server."""
_AZURE_KEY = "[^/]*:.*@"
"""There box@account is a place."""
_INSIDE = "**/*.parquet"
"""The files of a folder that count."""
_PLAIN = {"**/": "([^_.][^/]{0,}/){0,}", "*": "([^_.][^/]{0,}){0,1}"}
"""What is at the beginning of a name, for polars, whose patterns are regular expressions but for `*` and `.`:
hidden names and those such as `_SUCCESS` and `_temporary/` do not fit."""
_HEAD = 200
"""Lines that tell the form of a text file."""


class Remote(PurePosixPath):
    """An address such as `s3://bucket/clicks`, whose parts are those of a path.

    It means Parquet files, unless it ends as the name of a text file; with no such ending it is a folder, or a
    pattern.
    """

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    @property
    def scheme(self) -> str:
        return str(self).partition("://")[0]

    @property
    def text(self) -> bool:
        return self.name.endswith(SUFFIXES) and self.suffix not in PARQUET

    @property
    def pattern(self) -> bool:
        return any(sign in str(self) for sign in "*[")

    @property
    def folder(self) -> bool:
        return not (self.pattern or self.name.endswith(SUFFIXES))


def located(text: str) -> Path | Remote:
    """What a source names: a path of this machine, or an address.

    Raises:
        DataError: an address of a kind that cannot be read, or with a password or key.
    """
    scheme, found, rest = text.partition("://")
    if not found:
        return Path(text).expanduser()
    scheme = scheme.lower()
    known = scheme in (*_ASKED, *_WEB)
    secret = (_AZURE_KEY if _ASKED.get(scheme) == _AZURE else _KEY) if known else ".*@"
    shown = f"{scheme}://{re.sub(f'^({secret})', '', rest).partition('?')[0]}"
    if not known:
        raise DataError(
            f"{shown}: is an address of a kind that is not read; take one of {', '.join(_ASKED)} or https, "
            "or download the file and give its path"
        )
    if re.match(secret, rest) or "?" in rest:
        raise DataError(
            f"{shown}: a password, and what stands after a question mark, would be kept in the run; leave keys "
            "to the environment, or download the file and give its path"
        )
    place = Remote(f"{scheme}://{rest}")
    if (place.text or scheme in _WEB) and (place.pattern or place.folder):
        raise DataError(
            f"{place}: several files are read of a store, and only as Parquet; name one file, which ends in "
            f"{', '.join(SUFFIXES)}"
        )
    return place


def scan(place: Path | Remote) -> pl.LazyFrame:
    """Parquet rows of a file, or of all files of an address that is a folder or a pattern."""
    several = isinstance(place, Remote) and (place.folder or place.pattern)
    files = f"{place}/{_INSIDE}" if isinstance(place, Remote) and place.folder else str(place)
    if several:
        files = re.sub(r"(?<=/)(\*\*/|\*(?!\*))", lambda found: _PLAIN[found[0]], files)
        files = files.replace("[!", "[^")  # as polars writes "none of these"
    return pl.scan_parquet(
        files, glob=several, hive_partitioning=several, try_parse_hive_dates=False
    )


def first_bytes(place: Remote) -> bytes:
    """The first lines of a text."""
    lines = pl.scan_csv(
        str(place), glob=False, separator=WHOLE_LINE, quote_char=None, has_header=False,
        infer_schema=False, n_rows=_HEAD,
    )  # fmt: skip
    return "\n".join(lines.collect().to_series().drop_nulls()).encode()


_ABSENT = re.compile("paths were empty|expected at least 1 source|Object at location .*not found")
"""How the versions of polars tell that nothing is there, where the kind of error does not say so."""


def exists(place: Path | Remote) -> bool:
    """Whether there is such a file or folder; of an address, one with a file that fits.

    Raises:
        DataError: the store cannot be reached, or refuses.
    """
    if isinstance(place, Path):
        return place.exists()
    if len(place.parts) < (2 if place.folder else 3):  # no bucket, or nothing in it
        return False
    warnings.filterwarnings("ignore", ".*region' not set", UserWarning)  # polars finds it out
    try:
        first_bytes(place) if place.text else scan(place).collect_schema()
    except FileNotFoundError:
        return False
    except Exception as error:  # Google's library refuses by an exception of its own
        if _ABSENT.search(str(error)):
            return False
        of_format = isinstance(error, pl.exceptions.PolarsError) and "<Message>" not in str(error)
        asked = None if of_format else _ASKED.get(place.scheme)
        told = f"{place}: cannot be read ({reason(error)})"
        raise DataError(told + (f"; asked with {asked}" if asked else "")) from None
    return True


def assert_there(place: Remote) -> None:
    """Raise a `DataError` where an address leads to nothing that can be read."""
    if not exists(place):
        what = "no Parquet file in it" if place.folder else "no such file"
        raise DataError(f"{place}: there is {what}")


def parts(source: Remote, names: Sequence[str]) -> dict[str, Remote]:
    """The parts that a folder holds, each a file such as `train.parquet` or a folder `train`; maybe none.

    Raises:
        DataError: some are there, and the first of `names` is not, or held-out parts have a name before that
            of the part, as `shop.test.parquet` has, which cannot be listed.
    """
    if not (source.folder and exists(source)):
        return {}
    found = {}
    for name in names:
        places = (source / f"{name}.parquet", source / name)
        if (place := next(filter(exists, places), None)) is not None:
            found[name] = place
    if found and names[0] not in found:
        raise DataError(f"{source}: the folder has no {names[0]}.parquet")
    held = (f".{name}.parquet" for name in (() if found else names[1:]))
    if (end := next((end for end in held if exists(source / f"*{end}")), None)) is not None:
        raise DataError(
            f"{source}: holds a part *{end}, and one table would mix it with train: name the files, such as "
            f"{source}/NAME.train.parquet with data.test={source}/NAME.test.parquet"
        )
    return found


def reason(error: BaseException) -> str:
    """One line of an error: what the store says, else the last cause, else the first line."""
    text = str(error).strip()
    if said := re.search(r"<Message>(?:<!\[CDATA\[)?(.*?)(?:\]\]>)?</Message>", text, re.DOTALL):
        return said[1].strip().rstrip(".")
    if "Caused by:" in text:
        return re.sub(r"^\s*\d+: ", "", text.splitlines()[-1])
    return text.split("\n")[0].rstrip(".")
