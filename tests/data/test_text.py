"""Text that is too large: told of the file, before it takes the memory of the machine."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from ssmrec.data import load, prepare
from ssmrec.data.text import fitting_memory
from ssmrec.errors import DataError

ROWS = b"user,item\n" + b"".join(b"%d,%d\n" % (n % 50, n // 50) for n in range(500))
READ = """
import re, sys
from pathlib import Path
from ssmrec.data import load
from ssmrec.errors import DataError
try:
    load(sys.argv[1])
except DataError as error:
    print(error)
# Of this program alone: what resource tells begins with the process that started it.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def bomb(path: Path, megabytes: int) -> Path:
    """A gzip file with a field of so many megabytes in its last row but one."""
    with gzip.open(path, "wb") as file:
        file.write(ROWS + b"1,")
        for _ in range(megabytes):
            file.write(b"x" * (1 << 20))
        file.write(b"\n2,3\n")
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_a_field_of_a_gigabyte_is_refused_before_it_is_read(tmp_path):
    path = bomb(tmp_path / "a.csv.gz", 1024)
    assert path.stat().st_size < 2 << 20
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told, megabytes = done.stdout.splitlines()
    assert told == f"{path}: line 502 has more than 16 MB; mend or delete it"
    assert int(megabytes) < 800


@pytest.mark.parametrize("rows", [10, 2_000_000])
def test_a_file_that_packs_well_is_read(tmp_path, rows):
    """Equal lines, some 400 times smaller when packed; and one that is hardly smaller."""
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(ROWS + b"1,1\n" * rows))
    assert load(path).counts["rows_read"] == 500 + rows


def test_a_packed_file_that_is_cut_is_still_told(tmp_path):
    path = bomb(tmp_path / "a.csv.gz", 1)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"a\.csv\.gz: cannot be read, damaged"):
        load(path)


def test_out_of_memory_while_reading_speaks_of_the_file(tmp_path):
    """A table that asks for more than any machine has, when its columns are taken."""

    class Huge(pl.DataFrame):
        def lazy(self):
            bytearray(1 << 62)

    frame = Huge({"user": [1], "item": [2]})
    with pytest.raises(DataError, match=r"frame: out of memory while reading: split it .* Parquet"):
        prepare(frame)
    with pytest.raises(ZeroDivisionError), fitting_memory("a.csv"):
        _ = 1 / 0
