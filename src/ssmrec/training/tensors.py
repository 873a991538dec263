"""Tensors in a safetensors file, written a block at a time: no table is held twice, or whole, to save it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save
from torch import Tensor


@dataclass(frozen=True)
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
    with path.open("wb") as file:
        file.write(_header(tensors, metadata))
        for tensor in tensors.values():
            for block in tensor.blocks if isinstance(tensor, Rows) else [tensor]:
                file.write(_bytes(block))


def give(tensors: Iterable[Stored]) -> None:
    """Go through the blocks that are left, so that the other processes do not wait for them."""
    for tensor in tensors:
        if isinstance(tensor, Rows):
            for _ in tensor.blocks:
                pass


def _header(tensors: Mapping[str, Stored], metadata: Mapping[str, str] | None) -> bytes:
    """Length and JSON: those of empty tensors, by the library, with the true shapes and places."""
    empty = {name: torch.empty(0, dtype=tensor.dtype) for name, tensor in tensors.items()}
    told = save(empty, None if metadata is None else dict(metadata))
    header, at = json.loads(told[8 : 8 + int.from_bytes(told[:8], "little")]), 0
    for name, tensor in tensors.items():
        end = at + math.prod(tensor.shape) * tensor.dtype.itemsize
        header[name] |= {"shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
