"""Which items each user has, one bit each, to be looked up on the device where the scores are.

A batch against its own or shared candidates asks B x N questions. Here each is one bit of a table that
lies on the device, so a GPU need not wait until a CPU has gone through the histories.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ssmrec.data import Interactions
from ssmrec.kernels.compiled import has_triton
from ssmrec.kernels.memory import free_memory

_SHARE = 8
"""The table may take the free memory of its device divided by this."""
LARGEST = 2**26
"""Most answers (B x N) in one mask, a byte each."""


class KnownItems:
    """`train` as bits on a device: 32 items to a word, n_users * n_items / 8 bytes.

    Args:
        train: the pairs; each is there once.
        device: where the table lies and is asked.
    """

    def __init__(self, train: Interactions, device: torch.device) -> None:
        width = _width(train)
        words = train.rows.astype(np.int64) * width + train.indices // 32
        bits = np.left_shift(np.uint32(1), (train.indices % 32).astype(np.uint32)).view(np.int32)
        table = torch.zeros(train.n_users * width, dtype=torch.int32, device=device)
        # The bits of a word differ, so their sum is what they are together.
        table.index_add_(0, torch.from_numpy(words).to(device), torch.from_numpy(bits).to(device))
        self.table = table.view(train.n_users, width)

    def mask(self, users: Tensor, items: Tensor) -> Tensor:
        """bool (B, N), True where a user of `users` (B,) has an item of shared `items` (N,), int64 both."""
        if users.device.type == "cuda" and has_triton():
            from ssmrec.kernels.known_triton import look_up

            return look_up(self.table, users, items)
        words = self.table[users][:, items // 32]
        return words.bitwise_right_shift_((items % 32).int()).bitwise_and_(1).bool()


def fits(train: Interactions, device: torch.device) -> bool:
    """Whether the table takes no more than its part of the device's free memory."""
    free = free_memory(device)
    return free is None or 4 * train.n_users * _width(train) <= free // _SHARE


def _width(train: Interactions) -> int:
    return -(-train.n_items // 32)
