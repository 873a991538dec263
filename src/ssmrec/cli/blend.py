"""`ssmrec blend`: several finished runs as one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssmrec.cli.evaluate import split_of
from ssmrec.cli.options import OverwriteOption
from ssmrec.cli.train import claim, print_run, tell_room
from ssmrec.errors import ConfigError
from ssmrec.reporting.progress import ProgressBars
from ssmrec.training import load_run, save_run
from ssmrec.training.blend import blend as blended


def blend(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, two or more.", metavar="RUN...")],
    out: Annotated[Path, typer.Option(help="Folder of the new run.")],
    weights: Annotated[
        str | None, typer.Option(help="One for each run, as 0.8,0.2; default: by validation.")
    ] = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="Then train the runs again, on all pairs.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="Where the data of the runs lie now, if they were moved.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Blend finished runs into one: often better than the best of them.

    Scores are standardised for each user and added up with weights that are best on validation. The
    result is a run like any other: evaluate, recommend, index or serve it.

    Example:

      ssmrec train clicks.csv --model mf --out runs/mf

      ssmrec train clicks.csv --model svd --out runs/svd

      ssmrec blend runs/mf runs/svd --out runs/both
    """
    shares = None if weights is None else _numbers(weights)
    loaded = [load_run(run) for run in runs]
    claim(out, resume=False, overwrite=overwrite)
    (first, fingerprint), *_ = loaded
    split = split_of(first, data, fingerprint)
    with ProgressBars() as listener:
        trained = blended([run for run, _ in loaded], split, shares, refit, listener)
    tell_room(out, trained.config, split)
    save_run(out, trained, split.fingerprint)
    print_run(trained)
    typer.echo(f"run folder: {out}")


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(f"--weights must be numbers as in 0.8,0.2, not {text!r}") from None
