"""Files of tensors that are written block by block."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ssmrec.storage.tensors import Rows, give, read_tensors, write_tensors

TENSORS = {
    "bytes": torch.arange(5, dtype=torch.uint8),
    "table": torch.randn(7, 3),
    "turned": torch.randn(4, 6).T,
    "number": torch.tensor(3.0),
    "long": torch.arange(9).view(3, 3),
    "half": torch.randn(3).to(torch.bfloat16),
    "nothing": torch.zeros(0, 8),
    "flags": torch.tensor([True, False, True]),
}


def test_the_library_reads_what_was_written(tmp_path):
    write_tensors(tmp_path / "ours", TENSORS, {"told": "ä"})
    save_file({name: tensor.contiguous() for name, tensor in TENSORS.items()}, tmp_path / "theirs")
    ours, theirs = load_file(tmp_path / "ours"), load_file(tmp_path / "theirs")
    assert ours.keys() == theirs.keys() == TENSORS.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert torch.equal(ours[name], tensor), name
    with safe_open(tmp_path / "ours", framework="pt") as file:
        assert file.metadata().items() >= {"told": "ä"}.items()
    write_tensors(tmp_path / "none", {})
    assert load_file(tmp_path / "none") == {}


@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_rows_come_in_blocks(tmp_path, size):
    table = torch.randn(7, 3)
    rows = Rows((7, 3), table.dtype, iter(table.split(size)))
    write_tensors(tmp_path / "file", {"a": torch.arange(3), "rows": rows, "b": torch.ones(2)})
    found = load_file(tmp_path / "file")
    np.testing.assert_array_equal(found["rows"], table)
    assert found["a"].tolist() == [0, 1, 2] and found["b"].tolist() == [1, 1]


def test_all_blocks_are_gone_through_though_the_file_cannot_be_written(tmp_path):
    """Else the other processes would wait for the rest."""
    gone = []

    def blocks():
        for at in range(5):
            gone.append(at)
            yield torch.zeros(1, 3)

    rows = {"rows": Rows((5, 3), torch.float32, blocks())}
    with pytest.raises(OSError, match="No such file"):
        write_tensors(tmp_path / "missing" / "file", rows)
    assert gone == []
    give(rows.values())
    assert gone == [0, 1, 2, 3, 4]
    give(rows.values())  # what is gone through stays so
    assert gone == [0, 1, 2, 3, 4]


def test_what_is_read_is_in_memory_and_whole(tmp_path):
    """The file is cut in place after it was read: one that is mapped would end the process here."""
    write_tensors(file := tmp_path / "file", TENSORS, {"told": "ä"})
    found, _ = read_tensors(file)
    text = file.read_bytes()
    file.write_bytes(b"")
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    swapped = text.replace(b'"shape": [7, 3]', b'"shape": [7, 4]')
    for fault in (b"", text[:4], text[:40], text[:-1], text + b"\0", b"\xff" * 40, swapped):
        file.write_bytes(fault)
        with pytest.raises((ValueError, TypeError)):
            read_tensors(file)
