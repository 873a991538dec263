"""The operations that a value was computed by, as autograd names them."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def operations(value: Tensor) -> set[str]:
    """Names of all nodes of the graph behind `value`, such as `IndexBackward0`."""
    found: set[Any] = set()
    left: list[Any] = [value.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in found:
            found.add(node)
            left += [before for before, _ in node.next_functions]
    return {node.name() for node in found}
