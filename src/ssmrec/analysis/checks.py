"""What arrays must be for a formula to be about them; one line of error names the argument."""

from __future__ import annotations

import numpy as np

from ssmrec.errors import DataError

Array = np.ndarray


def check_shape(shape: tuple[int, ...], **arrays: Array) -> None:
    """Each of `arrays` has this shape.

    Raises:
        DataError: one has another.
    """
    for name, array in arrays.items():
        if np.shape(array) != shape:
            raise DataError(f"{name} must have the shape {shape}, not {np.shape(array)}")


def check_masks(shape: tuple[int, ...], **masks: Array) -> None:
    """Each of `masks` is bool and of this shape: numbers would be taken for places.

    Raises:
        DataError: one is not.
    """
    check_shape(shape, **masks)
    for name, mask in masks.items():
        if np.asarray(mask).dtype != bool:
            raise DataError(f"{name} must be bool, not {np.asarray(mask).dtype}")


def check_rows(pos: Array, neg: Array, live: Array) -> None:
    """Logits (B,) of positives and (B, N) of other candidates, and a mask (B, N) of those that count.

    Raises:
        DataError: the shapes do not fit, or `live` is not bool.
    """
    shape = np.shape(neg)
    if len(shape) != 2:
        raise DataError(f"logits of candidates must have the shape (B, N), not {shape}")
    check_shape(shape[:1], pos=pos)
    check_masks(shape, live=live)


def check_least(values: Array, least: float, what: str) -> None:
    """No value is below `least`, or is no number.

    Raises:
        DataError: names the first that is, `what` being its kind.
    """
    values = np.asarray(values)
    if (low := np.flatnonzero(~(values >= least))).size:
        raise DataError(f"{what} {low[0]} is {values.flat[low[0]]}, and must be at least {least}")
