"""Where a process stands among the others, by the variables that torchrun sets."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from ssmrec.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_ASK_ADDRESS = 0x8915
"""SIOCGIFADDR of Linux: the IPv4 address of a network interface."""
RESTARTS = "SSMREC_RESTARTS"
"""How often `ssmrec launch` has started all again, which torchrun does not count."""
LOST = 3
"""Exit code of a process that ends because another has."""
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """One process among others.

    Args:
        rank: its number, 0 to size - 1. size: how many there are.
        local_rank, local_size: the same among those on its machine.
        restarts: how often torchrun has started them again.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    restarts: int = 0

    @classmethod
    def found(cls, variables: Mapping[str, str] = os.environ) -> Place | None:
        """The place of this process; None where it was not started as one of several.

        Raises:
            ConfigError: a variable is not a number.
        """
        if not all(variables.get(name) for name in NEEDED):
            return None
        number = _numbers(variables)
        size = number("WORLD_SIZE", 1)
        return cls(
            number("RANK", 0), size, number("LOCAL_RANK", 0), number("LOCAL_WORLD_SIZE", size),
            number("TORCHELASTIC_RESTART_COUNT", 0) + number(RESTARTS, 0),
        )  # fmt: skip


def cores() -> int:
    """CPU cores that this process may use: a job of a cluster is often given some of a machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def interface_to(host: str) -> str | None:
    """Name of the network interface that leads to a machine; None where the system does not tell."""
    if fcntl is None:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect((host, 9))  # sends nothing
        own = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no address
                asked = struct.pack("256s", name.encode())
                found = fcntl.ioctl(probe.fileno(), _ASK_ADDRESS, asked)
                if socket.inet_ntoa(found[20:24]) == own:
                    return name
    return None


def _numbers(variables: Mapping[str, str]):  # type: ignore[no-untyped-def]
    def number(name: str, default: int) -> int:
        text = variables.get(name, str(default))
        if not text.isdigit():
            raise ConfigError(f"{name}={text}: must be a number; start the processes with torchrun")
        return int(text)

    return number
