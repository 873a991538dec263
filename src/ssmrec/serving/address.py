"""Addresses of databases: their kind and file, and what of them may be shown."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from ssmrec.errors import ConfigError

KINDS = ("postgresql", "postgres", "sqlite", "duckdb")
SECRET = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)
"""Names of parameters that are not shown, such as `password`, `sslpassword` and `motherduck_token`."""
NO_FILE = re.compile(r":memory:|(file|md|motherduck):.*")
"""What the drivers take in the place of a file."""
OF_FILES = re.compile(
    r"(https?|ftps?|s3[an]?|gs|gcs|az|abfss?|adl|wasbs?|hdfs|file)://", re.IGNORECASE
)
"""Addresses of files, which are downloaded and not queried."""
HIDDEN = "***"


def is_database(source: str) -> bool:
    """Whether `source` is written like a database: `kind://...`, and not of the kinds that hold files."""
    return "://" in source and not OF_FILES.match(source)


def kind_of(uri: str) -> str:
    """`postgresql`, `sqlite` or `duckdb`.

    Raises:
        ConfigError: another kind, or no address.
    """
    kind, found, _ = uri.partition("://")
    if not found:  # not shown: it may hold a password
        raise ConfigError("a database's address must look like postgresql://host/name")
    if kind not in KINDS:
        raise ConfigError(f"{kind}://: unknown database; choose from: {', '.join(KINDS)}")
    return "postgresql" if kind == "postgres" else kind


def place_of(uri: str) -> str:
    """What comes after `sqlite:///` or `duckdb:///`.

    Raises:
        ConfigError: nothing does, or there are two slashes: the file would not be that of the address.
    """
    host, _, place = uri.partition("://")[2].partition("/")
    if host or not place:
        raise ConfigError(f"{shown(uri)}: names no file; write {kind_of(uri)}:///file.db")
    return place


def file_of(uri: str) -> Path | None:
    """The file of an SQLite or DuckDB database; None where it has none."""
    if kind_of(uri) == "postgresql" or NO_FILE.fullmatch(place := place_of(uri)):
        return None
    return Path(place)


def shown(uri: str) -> str:
    """The address without its password; where it is unclear what that is, with less than could be shown."""
    kind, mark, rest = uri.partition("://")
    base, asked, query = rest.partition("?")
    user, at, host = base.rpartition("@")  # the last: a password may hold an @ itself
    if at and ":" in user:
        base = f"{user.partition(':')[0]}:{HIDDEN}@{host}"
    elif not at and ":" in base and "@" in query:  # a password may hold a ? as well
        base, query = f"{base.partition(':')[0]}:{HIDDEN}", HIDDEN
    kept: list[str] = []
    for part in query.split("&"):
        name = part.partition("=")[0]
        if SECRET.search(unquote(name)):
            kept.append(f"{name}={HIDDEN}")
            break  # what follows may belong to the password
        kept.append(part)
    return f"{kind}{mark}{base}{asked}{'&'.join(kept)}"


def refuse_unclear(uri: str) -> None:
    """PostgreSQL's driver would take a part of such a password for something else, and show it.

    Raises:
        ConfigError: a character must be percent-encoded.
    """
    whole = uri.partition("://")[2]
    base, _, query = whole.partition("?")
    path = base.partition("/")[2]
    pairs = all("=" in part for part in query.split("&")) if query else True
    no_port = "@" not in base and "@" in query and not re.fullmatch(r"[^:]*(:\d*(/.*)?)?", base)
    percent = re.search("%(?![0-9a-fA-F]{2})", whole)
    if base.count("@") > 1 or "@" in path or not pairs or no_port or percent:
        raise ConfigError(
            f"{shown(uri)}: write @ / ? & and % of a name or password as %40 %2F %3F %26 and %25"
        )


def told(error: Exception, uri: str) -> str:
    """A driver's error as one line, without the secrets of the address."""
    text = str(error)
    for secret in sorted(_secrets(uri), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return " ".join(text.split())[:300]


def _secrets(uri: str) -> set[str]:
    """Password and the like, as written and decoded; not where two letters or one, which are anywhere."""
    base, _, query = uri.partition("://")[2].partition("?")
    found = {base.rpartition("@")[0].partition(":")[2]}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if SECRET.search(unquote(name)):
            found.add(value)
    return {text for raw in found for text in (raw, unquote(raw)) if len(text) > 2}
