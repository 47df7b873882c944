"""The site's configuration: one file, every key also by environment variable, checked as a whole."""

from tesk.config.errors import ConfigError
from tesk.config.keys import changed_keys
from tesk.config.load import Loaded, Source, load, load_with_sources
from tesk.config.models import Config
from tesk.config.show import describe, to_yaml

__all__ = [
    "Config",
    "ConfigError",
    "Loaded",
    "Source",
    "changed_keys",
    "describe",
    "load",
    "load_with_sources",
    "to_yaml",
]
