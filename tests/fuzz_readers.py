"""Damaged and made-up files against the readers: `python tests/fuzz_readers.py 10000 [seed]`.

Each input must give pairs that hold together, or one `SsmrecError` of one line. Anything else is
printed with its number, so that `seed` and number make it again, and the exit code is 1.
"""

from __future__ import annotations

import gzip
import io
import logging
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from ssmrec.data import Interactions, load
from ssmrec.errors import SsmrecError

PIECES = [
    b"\n", b"\r\n", b"\r", b",", b"\t", b";", b"|", b"::", b" ", b'"', b'""', b"'", b"\x00", b"\xff",
    b"\xef\xbb\xbf", b"nan", b"NULL", b"-1", b"0", b"007", b"1.0", b"1e5", b"9" * 25, b"user", b"item",
    b"timestamp", b"2020-01-01", b"12/1/2010", "é😀".encode(), "\u2028".encode(), b"\\", b"#", b"=", b"x" * 300,
]  # fmt: skip
"""What is put into files: delimiters, quotes, words for nothing, odd numbers and characters."""
SUFFIXES = {"text": (".csv", ".tsv", ".txt", ""), "gzip": (".csv.gz",), "parquet": (".parquet",)}
OPTIONS = [
    {}, {}, {"nulls": "drop"}, {"ids": "str"}, {"ids": "int"}, {"header": True}, {"header": False},
    {"format": "csv"}, {"format": "adjacency"}, {"format": "parquet"}, {"delimiter": ","}, {"user": 1},
    {"min_user": 2}, {"duplicates": "count"},
]  # fmt: skip


def seeds(random: np.random.Generator) -> dict[str, list[bytes]]:
    """Whole files to start from."""
    pairs = [(int(u), int(i)) for u, i in random.integers(0, 9, (30, 2))]
    frame = pl.DataFrame(pairs, schema=["user", "item"], orient="row")
    frame = frame.with_columns(timestamp=pl.int_range(pl.len()) + 10**9)
    text = [
        frame.write_csv(separator=s, include_header=h).encode()
        for s in ",\t; "
        for h in (True, False)
    ]
    text += [frame.cast(pl.String).write_csv(quote_style="always").encode()]
    text += [
        b"0 1 2 3\n1 4\n2 5 6 7 8 9\n",
        b"u1::i1::5::978300760\nu2::i2::3::978302109\n",
        b"a,b\nc,d\n",
    ]
    columnar = io.BytesIO()
    frame.with_columns(user="u" + pl.col("user").cast(pl.String)).write_parquet(columnar)
    return {
        "text": text,
        "gzip": [gzip.compress(t) for t in text],
        "parquet": [columnar.getvalue()],
    }


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """One to four cuts, flipped bytes, doubled parts or pieces put in."""
    for _ in range(random.integers(1, 5)):
        at, to = sorted(random.integers(0, len(data) + 1, 2))
        match random.integers(6):
            case 0:
                data = data[:to]
            case 1:
                data = data[:at] + data[to:]
            case 2:
                data = data[:at] + data[at:to] * 2 + data[to:]
            case 3 if at < len(data):
                data = data[:at] + bytes([data[at] ^ (1 << random.integers(8))]) + data[at + 1 :]
            case 4:
                data = data[:at] + random.bytes(random.integers(1, 20)) + data[at:]
            case _:
                data = data[:at] + PIECES[random.integers(len(PIECES))] + data[at:]
    return data


def verdict(path: Path, options: dict) -> str:
    """`pairs`, the kind of the error, or `FAULT: ...`."""
    try:
        found = load(path, **options)
    except SsmrecError as error:
        return type(error).__name__ if "\n" not in str(error) else f"FAULT: lines in {error!r}"
    except BaseException as error:  # polars panics are no Exception
        return f"FAULT: {type(error).__name__}: {error}"
    return broken(found) or "pairs"


def broken(found: Interactions) -> str:
    """What does not hold together, or nothing."""
    if not len(found):
        return "FAULT: no pairs, and no error"
    if found.indptr[-1] != len(found) or found.indices.max() >= found.n_items:
        return "FAULT: indices out of range"
    if found.frame().select("user", "item").is_duplicated().any():
        return "FAULT: repeated pairs"
    told = {k: n for k, n in found.counts.items() if k.startswith("dropped") or k == "duplicates"}
    if found.counts["rows_read"] - sum(told.values()) != len(found):
        return f"FAULT: rows are missing from the counts {dict(found.counts)}, {len(found)} pairs"
    return ""


def fuzz(count: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Outcomes of `count` inputs, and the faults."""
    kinds: Counter[str] = Counter()
    faults = []
    for number in range(count):
        random = np.random.default_rng([seed, number])
        kind = ("text", "text", "text", "gzip", "parquet")[random.integers(5)]
        whole = seeds(random)[kind]
        data = damaged(whole[random.integers(len(whole))], random)
        path = folder / f"a{SUFFIXES[kind][random.integers(len(SUFFIXES[kind]))]}"
        path.write_bytes(data)
        options = OPTIONS[random.integers(len(OPTIONS))]
        outcome = verdict(path, options)
        path.unlink()
        kinds[outcome.partition(":")[0]] += 1
        if outcome.startswith("FAULT"):
            faults.append(f"{number} {path.name} {options} {data[:80]!r}: {outcome}")
    return kinds, faults


if __name__ == "__main__":
    logging.disable()
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as place:
        kinds, faults = fuzz(count, seed, Path(place))
    print(f"{count} inputs, seed {seed}:", ", ".join(f"{n} {kind}" for kind, n in kinds.items()))
    print("\n".join(faults[:50]))
    sys.exit(bool(faults))
