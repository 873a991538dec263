"""Where a training runs: the device, its threads, and the arithmetic of its matrix products."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import numba
import torch

from ssmrec.errors import ConfigError
from ssmrec.kernels.threads import refuse_lost

logger = logging.getLogger("ssmrec")

Precision = Literal["float32", "tf32", "bf16"]


def pick_device(choice: str) -> torch.device:
    """The device to train on; `auto` takes CUDA when there is one."""
    available = torch.cuda.is_available()
    if choice == "cuda" and not available:
        raise ConfigError("train.device=cuda, but no CUDA device can be used: set train.device=cpu")
    return torch.device("cuda" if available and choice != "cpu" else "cpu")


def device_name(device: torch.device) -> str:
    """What people call it: `cpu`, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def use_threads(threads: int | None) -> None:
    """CPU threads of torch and of the numba kernels; None takes all that numba was started with.

    More than there are would only wait for each other, and are not started.

    Raises:
        RunError: as `refuse_lost`.
    """
    refuse_lost()
    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    if threads is not None and threads > most:
        logger.warning("train.threads=%d: there are %d, which are used", threads, most)
    count = min(threads or most, most)
    torch.set_num_threads(count)
    numba.set_num_threads(count)


class Products:
    """The arithmetic of the matrix products of a training step (`train.precision`).

    Raises:
        ConfigError: another precision than float32 on a CPU.
    """

    def __init__(self, precision: Precision, device: torch.device) -> None:
        if precision != "float32" and device.type != "cuda":
            raise ConfigError(
                f"train.precision={precision} is for a CUDA device, and this run is on the "
                f"{device.type}: leave train.precision at float32"
            )
        self.precision, self.device = precision, device

    def forward(self) -> AbstractContextManager[object]:
        """Around the computation of the loss: under `bf16` its products take rounded numbers."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around loss and gradient: `tf32` holds for their products only, not for ranking."""
        if self.precision != "tf32":
            yield
            return
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`; a GPU gets it without the CPU waiting for what is queued there."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
