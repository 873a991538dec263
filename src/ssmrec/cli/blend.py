"""`ssmrec blend`: several finished runs as one model."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ssmrec.blending.blend import blend as blend_runs
from ssmrec.blending.blend import check_blend
from ssmrec.cli.evaluate import split_of
from ssmrec.cli.options import OverwriteOption
from ssmrec.cli.train import print_run
from ssmrec.data import Split
from ssmrec.errors import ConfigError, DataError, RunError
from ssmrec.reporting.progress import ProgressBars
from ssmrec.storage.files import CHECKPOINT, ready
from ssmrec.storage.held import held
from ssmrec.training import Trained, load_run, save_run
from ssmrec.training.run import holds, refuse_foreign

logger = logging.getLogger("ssmrec")


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
    _refuse_early(runs, out, overwrite)
    loaded = [load_run(run) for run in runs]
    parts, names = [run for run, _ in loaded], [str(run) for run in runs]
    check_blend(parts, shares, refit, names)
    split, fingerprint = _data(*loaded[0], data, needed=shares is None or refit)
    if data is not None:
        settings = parts[0].config.data.model_copy(update={"source": data})
        parts[0] = replace(parts[0], config=parts[0].config.model_copy(update={"data": settings}))
    ready(out)
    try:
        with held(out), ProgressBars() as listener:
            trained = blend_runs(parts, split, shares, refit, listener, names)
    except BaseException:
        with suppress(OSError):
            out.rmdir()  # it is empty, if it was made here
        raise
    save_run(out, trained, fingerprint)
    (out / CHECKPOINT).unlink(missing_ok=True)  # of a training that was here before
    if trained.metrics["test"] or trained.metrics["valid"]:
        print_run(trained)
    typer.echo(f"run folder: {out}")


def _refuse_early(runs: list[Path], out: Path, overwrite: bool) -> None:
    """Refuse what the names of the folders tell."""
    places, place = [run.resolve() for run in runs], out.resolve()
    if len(set(places)) < len(places):
        raise ConfigError("a blend is made of at least two runs, each named once")
    for part in places:
        if place == part or part in place.parents:
            raise ConfigError(f"--out {out}: is one of the runs, or in it; choose another folder")
    if (held := holds(out)) and not overwrite:
        raise RunError(f"{out}: holds {held}; choose another --out, or --overwrite")
    if not overwrite:
        refuse_foreign(out, "choose another --out, or --overwrite")


def _data(first: Trained, fingerprint: str, source: str | None, needed: bool) -> tuple[Split, str]:
    """The data of the runs and their fingerprint; named weights do without data, unmeasured."""
    try:
        split = split_of(first, source, fingerprint, remedy=", or name the weights")
        return split, split.fingerprint
    except DataError as error:
        if needed:
            raise
        logger.warning("nothing is measured: %s", error)
        return Split(first.train, None, None, "given"), fingerprint


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(f"--weights must be numbers as in 0.8,0.2, not {text!r}") from None
