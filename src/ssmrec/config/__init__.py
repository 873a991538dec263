"""What was asked: settings classes, loading, overrides, recipes."""

from ssmrec.config.base import Config, as_part, build, choose, explain, nearest, settings_of
from ssmrec.config.load import merged, override, parse_yaml, read_recipe, read_yaml, recipes

__all__ = [
    "Config", "as_part", "build", "choose", "explain", "merged", "nearest", "override",
    "parse_yaml", "read_recipe", "read_yaml", "recipes", "settings_of",
]  # fmt: skip
