"""`ssmrec recipes`: the shipped settings."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ssmrec.config import read_recipe
from ssmrec.config import recipes as shipped


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe.")] = None,
) -> None:
    """List the shipped recipes, or print one."""
    if name is not None:
        read_recipe(name)  # refused where there is none
        folder = resources.files("ssmrec.config") / "recipes"
        file = folder / f"{name}.yaml" if name in shipped() else Path(name)
        typer.echo(file.read_text(), nl=False)
        return
    table = Table("recipe", "what it is", title="ssmrec train --recipe NAME")
    for recipe, line in shipped().items():
        table.add_row(recipe, line)
    Console().print(table)
