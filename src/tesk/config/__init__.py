"""The site's configuration: one file, every key also by environment variable, checked as a whole."""

from tesk.config.errors import ConfigError
from tesk.config.load import Loaded, load, load_with_sources
from tesk.config.models import Config
from tesk.config.show import describe, to_yaml

__all__ = ["Config", "ConfigError", "Loaded", "describe", "load", "load_with_sources", "to_yaml"]
