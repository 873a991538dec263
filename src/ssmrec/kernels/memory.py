"""How much memory is free, how many rows of work fit into a part of it, and what is kept for more."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None

_SHARE = 4
"""One block of work may take the free memory divided by this."""

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def fitting(best: int, row_bytes: int, device: torch.device | None = None) -> int:
    """How many rows to work on at once: `best`, or as many as fit into a quarter of the free memory.

    Args:
        best: the number that is fastest, at least 1.
        row_bytes: what one row takes.
        device: where; None for main memory.

    Returns:
        1 to `best`.
    """
    free = free_memory(device)
    return best if free is None else max(1, min(best, free // (_SHARE * max(row_bytes, 1))))


@cache
def keep_freed() -> None:
    """Make glibc keep freed blocks of less than 32 MB for the next of that size.

    It takes blocks larger than the largest freed so far (128 kB at first) from the system and gives them
    back, and the system clears all pages of each anew: up to a third of the time of scoring a tile. So
    one of 32 MB (its limit, a header less), to which nothing is written, is freed first. Other
    allocators take no notice.
    """
    torch.empty(2**25 - 2**12, dtype=torch.uint8)


def free_memory(device: torch.device | None = None) -> int | None:
    """Bytes that can still be had without swapping; None where the system does not tell.

    On a CPU the least of what Linux holds available, what the control groups of a container leave, and
    what a limit of the address space (`ulimit -v`) leaves.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [_of_machine("MemAvailable:"), _left_in_groups(), _left_of_addresses()]
    known = [max(0, limit) for limit in limits if limit is not None]
    return min(known, default=None)


def all_memory(device: torch.device | None = None) -> int | None:
    """Bytes that there are, used or not, within the same limits; None where the system does not tell."""
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    limits = [_of_machine("MemTotal:"), _most_addresses()]
    limits += [_number(group / "memory.max") for group in _groups()]
    return min((limit for limit in limits if limit is not None), default=None)


def _of_machine(name: str) -> int | None:
    for line in _lines(_PROC / "meminfo"):
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    return None


def _groups() -> list[Path]:
    """This process's control group (version 2) and those above it."""
    own = next((line[3:] for line in _lines(_PROC / "self/cgroup") if line.startswith("0::")), None)
    if own is None:
        return []
    path = _CGROUP / own.strip().lstrip("/")
    return [group for group in (path, *path.parents) if group.is_relative_to(_CGROUP)]


def _left_in_groups() -> int | None:
    """Limit minus use, of the control groups; the least.

    Cached file pages count as used there, and are given up when memory is wanted.
    """
    left = []
    for group in _groups():
        most, used = (_number(group / name) for name in ("memory.max", "memory.current"))
        if most is not None and used is not None:
            stat = dict(line.split() for line in _lines(group / "memory.stat"))
            left.append(most - used + int(stat.get("inactive_file", 0)))
    return min(left, default=None)


def _most_addresses() -> int | None:
    if resource is None or not hasattr(resource, "RLIMIT_AS"):
        return None
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if most == resource.RLIM_INFINITY else most


def _left_of_addresses() -> int | None:
    most = _most_addresses()
    used = next(iter(_lines(_PROC / "self/statm")), "").split()
    if most is None or not used:
        return None
    return most - int(used[0]) * resource.getpagesize()  # type: ignore[union-attr]


def _number(path: Path) -> int | None:
    """What a file of one number holds; None when it is missing or says `max`."""
    text = next(iter(_lines(path)), "max").strip()
    return int(text) if text.isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
