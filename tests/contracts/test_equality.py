"""Objects that hold arrays or tensors are equal to themselves only: `==` never raises."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil

import pytest
import torch

import ssmrec
from ssmrec.negatives import Batch

HOLD = ("Tensor", "Array", "ndarray", "DataFrame", "Series")


def modules():
    names = [found.name for found in pkgutil.walk_packages(ssmrec.__path__, "ssmrec.")]
    return [name for name in names if "triton" not in name and not name.endswith("__main__")]


@pytest.mark.parametrize("name", modules())
def test_no_dataclass_compares_arrays(name):
    for kind in vars(pytest.importorskip(name)).values():
        if inspect.isclass(kind) and kind.__module__ == name and dataclasses.is_dataclass(kind):
            types = " ".join(str(field.type) for field in dataclasses.fields(kind))
            compared = kind.__dataclass_params__.eq  # type: ignore[attr-defined]
            assert not (compared and any(word in types for word in HOLD)), kind


def test_a_batch_can_be_compared():
    one, other = (Batch(torch.arange(3), torch.arange(3)) for _ in range(2))
    assert one == one and one != other and one in [other, one]
