"""What was asked: settings classes, loading, overrides, recipes."""

from ssmrec.config.base import Config, build, choose, nearest
from ssmrec.config.load import merged, override, read_recipe, read_yaml, recipes

__all__ = [
    "Config", "build", "choose", "merged", "nearest", "override", "read_recipe", "read_yaml",
    "recipes",
]  # fmt: skip
