"""What was asked: settings classes, loading, overrides, recipes."""

from ssmrec.config.base import Config, as_part, build, choose, nearest, settings_of
from ssmrec.config.load import merged, override, read_recipe, read_yaml, recipes

__all__ = [
    "Config", "as_part", "build", "choose", "merged", "nearest", "override", "read_recipe",
    "read_yaml", "recipes", "settings_of",
]  # fmt: skip
