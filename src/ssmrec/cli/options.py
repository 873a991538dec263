"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ssmrec.errors import ConfigError

RecipeOption = Annotated[
    str | None,
    typer.Option(help="Settings to start from: a name of `ssmrec recipes`, or a YAML file."),
]
ModelOption = Annotated[
    str | None, typer.Option(help="mf, lightgcn, ease ...; all: ssmrec settings model.name.")
]
LossOption = Annotated[
    str | None, typer.Option(help="ssm, bpr, psl ...; all: ssmrec settings loss.name.")
]
NegativesOption = Annotated[
    str | None, typer.Option(help="in_batch, uniform ...; all: ssmrec settings negatives.name.")
]
SeedOption = Annotated[int | None, typer.Option(help="Decides all randomness.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the run in the folder.")
]
TrackOption = Annotated[
    list[str] | None,
    typer.Option(help="Also log to tensorboard (into OUT) or mlflow; repeat for both."),
]


def refuse_both(resume: bool, overwrite: bool) -> None:
    """Raise a `ConfigError` where a run is both to go on and to begin anew."""
    if resume and overwrite:
        raise ConfigError("--resume goes on, --overwrite begins anew: choose one")


def once(option: str, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The values by key; a `ConfigError` where a key comes twice, as one of its values would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ConfigError(f"{option} {twice}: is given twice; name all its values in one")
    return found


def seconds(text: str, option: str = "--budget", like: str = "10s, 5m or 2h") -> float:
    """`10s`, `5m`, `2h` or plain seconds."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        return float(number) * units[unit]
    except ValueError:
        raise ConfigError(f"{option} {text}: must look like {like}") from None
