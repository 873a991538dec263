"""Tensors in a safetensors file, written a block at a time: no table is held twice, or whole, to save it.

They are read into memory of their own. A file holds the CRC-32 of all its bytes, those eight digits taken as 0.
"""

from __future__ import annotations

import json
import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """A table whose rows lie in several processes, to be gone through once, by all of them.

    Args:
        shape: (n, d) of the whole table. dtype: of its numbers.
        blocks: all rows in order, some at a time, in process 0; as many empty blocks in the others.
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    blocks: Iterator[Tensor]


Stored = Tensor | Rows

_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip

_OPEN = b'"crc32": "00000000"'
"""Where the checksum stands in the header, before it is known."""
_CRC = re.compile(rb'"crc32": "([0-9a-f]{8})"')
_BLOCK = 1 << 22


class Slices(Protocol):
    """A table in a file, of which some rows can be read: what `safe_open(...).get_slice` gives."""

    def get_shape(self) -> list[int]: ...

    def __getitem__(self, rows: slice) -> Tensor: ...


def write_tensors(
    path: Path, tensors: Mapping[str, Stored], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file; of `Rows` in process 0, while all others `give` theirs.

    Raises:
        OSError: the file cannot be written.
    """
    order = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)  # so all are aligned
    tensors = {name: tensors[name] for name in order}
    header = _header(tensors, {**(metadata or {}), "crc32": "00000000"})
    crc = zlib.crc32(header)
    with path.open("wb") as file:
        file.write(header)
        for tensor in tensors.values():
            for block in tensor.blocks if isinstance(tensor, Rows) else [tensor]:
                file.write(data := _bytes(block))
                crc = zlib.crc32(data, crc)
        file.seek(header.index(_OPEN))
        file.write(_OPEN.replace(b"00000000", b"%08x" % crc))


def assert_whole(path: Path) -> None:
    """Raise a `ValueError` where a file is not what `write_tensors` wrote; one without a checksum passes."""
    with path.open("rb") as file:
        first = file.read(8)
        length = min(int.from_bytes(first, "little"), os.fstat(file.fileno()).st_size)
        crc, checksum = _checksums(first + file.read(length))
        while checksum is not None and (block := file.read(_BLOCK)):
            crc = zlib.crc32(block, crc)
    _assert_equal(crc, checksum)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file and its metadata, in memory of their own.

    A mapped file that is cut would end the process.

    Raises:
        OSError: the file cannot be read. ValueError, KeyError, TypeError: it is not whole.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(first := file.read(8), "little")
        if length > size:
            raise ValueError("begins with no header")
        header = dict(json.loads(text := file.read(length)))
        crc, checksum = _checksums(first + text)
        metadata = header.pop("__metadata__", {})
        whole = 8 + length + max((told["data_offsets"][1] for told in header.values()), default=0)
        if size != whole:
            raise ValueError(f"has {size:,} bytes in the place of {whole:,}")
        found, at = {}, 0
        for name, told in sorted(header.items(), key=lambda entry: entry[1]["data_offsets"]):
            (start, end), kind = told["data_offsets"], _TYPES[told["dtype"]]
            if start != at or end - start != math.prod(told["shape"]) * kind.itemsize:
                raise ValueError(f"{name} has another shape")
            at = end  # none lies on another one: a small file takes little memory
            found[name] = torch.empty(told["shape"], dtype=kind)
            file.seek(8 + length + start)
            if file.readinto(data := _bytes(found[name])) != end - start:
                raise ValueError(f"{name} is not whole")
            crc = zlib.crc32(data, crc)
    _assert_equal(crc, checksum)
    return found, metadata


def _checksums(header: bytes) -> tuple[int, int | None]:
    """CRC-32 of a header before the checksum of the file was written into it, and that one, if there is one."""
    found = _CRC.search(header)
    if found is None:
        return 0, None
    return zlib.crc32(header.replace(found[0], _OPEN)), int(found[1], 16)


def _assert_equal(crc: int, checksum: int | None) -> None:
    if checksum is not None and crc != checksum:
        raise ValueError("its bytes are not those that were written")


def give(tensors: Iterable[Stored]) -> None:
    """Go through the blocks that are left, so that the other processes do not wait for them."""
    for tensor in tensors:
        if isinstance(tensor, Rows):
            for _ in tensor.blocks:
                pass


def _header(tensors: Mapping[str, Stored], metadata: Mapping[str, str] | None) -> bytes:
    """Length and JSON: those of empty tensors, by the library, with the true shapes and places.

    Sorted, as the library gives metadata in any order.
    """
    empty = {name: torch.empty(0, dtype=tensor.dtype) for name, tensor in tensors.items()}
    told = save(empty, None if metadata is None else dict(metadata))
    header, at = json.loads(told[8 : 8 + int.from_bytes(told[:8], "little")]), 0
    for name, tensor in tensors.items():
        end = at + math.prod(tensor.shape) * tensor.dtype.itemsize
        header[name] |= {"shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
