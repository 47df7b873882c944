"""S3 options from what AWS's own tools read: `AWS_*` variables, `~/.aws/credentials` and `~/.aws/config`."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

from tesk.storage.options import S3Options

__all__ = ["s3_options"]

_AMBIENT = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def s3_options(environ: Mapping[str, str]) -> S3Options:
    """The options that `environ` and the files it points to give; a variable wins over a file, as AWS's tools
    have it.

    Raises ValueError when `AWS_PROFILE` names a profile that neither file has.
    """
    profile = _profile(environ)
    keys = {
        "access_key_id": environ.get("AWS_ACCESS_KEY_ID"),
        "secret_access_key": environ.get("AWS_SECRET_ACCESS_KEY"),
        "session_token": environ.get("AWS_SESSION_TOKEN"),
    }
    if not (keys["access_key_id"] and keys["secret_access_key"]):
        keys = {
            "access_key_id": profile.get("aws_access_key_id"),
            "secret_access_key": profile.get("aws_secret_access_key"),
            "session_token": profile.get("aws_session_token"),
        }
    return S3Options(
        endpoint=environ.get("AWS_ENDPOINT_URL_S3")
        or environ.get("AWS_ENDPOINT_URL")
        or profile.get("endpoint_url")
        or None,
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or profile.get("region") or "us-east-1",
        ambient=not keys["access_key_id"] and any(environ.get(one) for one in _AMBIENT),
        **keys,
    )


def _profile(environ: Mapping[str, str]) -> Mapping[str, str]:
    """What both files say of the profile; the credentials file wins."""
    home = Path(environ["HOME"]) if environ.get("HOME") else None
    name = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    found: dict[str, str] = {}
    known = False
    for variable, default, section in (
        ("AWS_CONFIG_FILE", "config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name),
    ):
        path = Path(environ[variable]).expanduser() if environ.get(variable) else home and home / ".aws" / default
        parsed = _parse(path)
        if parsed.has_section(section):
            known = True
            found.update(parsed[section])
            services = parsed[section].get("services")
            if services and parsed.has_section(f"services {services}"):
                found.update(_nested(parsed[f"services {services}"].get("s3", "")))
    if not known and environ.get("AWS_PROFILE"):
        raise ValueError(
            f"AWS_PROFILE is '{name}', but neither ~/.aws/config nor ~/.aws/credentials has such a profile"
        )
    return found


def _parse(path: Path | None) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(
        interpolation=None, default_section="", strict=False, comment_prefixes=("#", ";"), delimiters=("=",)
    )
    if path is None:
        return parsed
    try:
        parsed.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except FileNotFoundError:
        return parsed
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise ValueError(f"{path} cannot be read as an AWS configuration file: {error}") from error
    return parsed


def _nested(text: str) -> dict[str, str]:
    """AWS's indented settings: lines of `key = value` below one setting."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}
