"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

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
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a finished run.")]
TrackOption = Annotated[
    list[str] | None,
    typer.Option(help="Also log to tensorboard (into OUT) or mlflow; repeat for both."),
]
