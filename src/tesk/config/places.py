"""Where the configuration file and the state directory lie when nobody says."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tesk.config.errors import ConfigError

__all__ = ["default_state_directory", "find_file", "home"]


def home(environ: Mapping[str, str]) -> Path:
    """The home directory: `$HOME`, else what the system's user list says."""
    if environ.get("HOME"):
        return Path(environ["HOME"])
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def find_file(path: Path | None, environ: Mapping[str, str], directory: Path) -> Path | None:
    """The configuration file to read, or None when there is none (then the defaults hold).

    A file that somebody named (`path`, `$TESK_CONFIG`) must be there: ConfigError otherwise.
    """
    for named, who in ((path, "--config"), (_path(environ.get("TESK_CONFIG")), "$TESK_CONFIG")):
        if named is not None:
            if not named.is_file():
                raise ConfigError([f"{named}: there is no such file, although {who} names it"])
            return named
    local = directory / "tesk.yaml"
    configured = _path(environ.get("XDG_CONFIG_HOME")) or home(environ) / ".config"
    for found in (local, configured / "tesk" / "tesk.yaml", Path("/etc/tesk/tesk.yaml")):
        if found.is_file():
            return Path("tesk.yaml") if found == local and directory == Path.cwd() else found
    return None


def default_state_directory(
    environ: Mapping[str, str], platform: str = sys.platform, user: int | None = None
) -> tuple[Path, str]:
    """The platform's place for what must survive a restart, and why that one.

    systemd's `$STATE_DIRECTORY`, root's `/var/lib/tesk`, macOS's or XDG's directory.
    """
    systemd = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if systemd:
        return Path(systemd), "$STATE_DIRECTORY"
    if platform == "darwin":
        return home(environ) / "Library" / "Application Support" / "tesk", "default"
    if (os.geteuid() if user is None else user) == 0:
        return Path("/var/lib/tesk"), "default"
    state = environ.get("XDG_STATE_HOME", "")
    if state.startswith("/"):
        return Path(state) / "tesk", "$XDG_STATE_HOME"
    return home(environ) / ".local" / "state" / "tesk", "default"


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
