"""`ssmrec launch`: one command in several processes."""

from __future__ import annotations

from typing import Annotated

import torch
import typer

from ssmrec.cli.options import seconds
from ssmrec.distributed import launch as start
from ssmrec.errors import ConfigError

app = typer.Typer(add_completion=False)
ANY_WORDS = {
    "allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False,
}  # fmt: skip


@app.command(context_settings=ANY_WORDS)
def launch(
    context: typer.Context,
    processes: Annotated[
        int | None,
        typer.Option(
            "-n", "--processes", min=1, help="On this machine; default: one for each GPU."
        ),
    ] = None,
    hosts: Annotated[int, typer.Option(min=1, help="Number of machines.")] = 1,
    host: Annotated[int, typer.Option(min=0, help="Number of this machine, from 0.")] = 0,
    meeting: Annotated[
        str | None, typer.Option(help="Where machine 0 is found.", metavar="NAME:PORT")
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option(help="How long the machines wait for each other, such as 30s; default: 5m."),
    ] = None,
    restarts: Annotated[
        int, typer.Option(min=0, help="How often to start again after a process was lost.")
    ] = 0,
) -> None:
    """Train in several processes: `ssmrec launch -n 2 train ...`, as torchrun does it.

    Examples:

      ssmrec launch -n 4 train clicks.parquet --model mf

      ssmrec launch -n 8 --hosts 2 --host 0 --meeting gpu-one:29500 train clicks.parquet
    """
    if not context.args:
        raise ConfigError("nothing to launch: name a command, as in `ssmrec launch -n 2 train ...`")
    if context.args[0].startswith("-"):
        raise ConfigError(
            f"{context.args[0]}: no option of launch; those of all commands stand before it, as in "
            "`ssmrec --plugin hinge.py launch -n 2 train ...`"
        )
    count = processes or torch.cuda.device_count()
    if not count:
        raise ConfigError("there is no GPU to count: say how many processes, as in `-n 2`")
    limit = None if wait is None else seconds(wait, "--wait", "30s or 10m")
    raise typer.Exit(start(count, context.args, hosts, host, meeting, limit, restarts))
