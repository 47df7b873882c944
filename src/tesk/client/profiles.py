"""Which server to speak with when nobody says it in code: profiles in a file, and the environment.

The first of these that is given counts:

1. `server` (`--server`),
2. `profile` (`--profile`),
3. `$TESK_URL`, `$TES_URL`,
4. `$TESK_PROFILE`,
5. the file's `default` profile, or its only one,
6. `$FUNNEL_SERVER`,
7. `http://127.0.0.1:8000`.

An address alone never borrows a profile's credentials. The file is `$TESK_CLIENT_CONFIG`, else
`$XDG_CONFIG_HOME/tesk/client.yaml`, else `~/.config/tesk/client.yaml`:

    default: lab
    profiles:
      lab:
        url: https://tes.lab.example
        token_file: ~/.config/tesk/lab.token
      cloud:
        url: https://cloud.example/ga4gh/tes/v1
        token: ${CLOUD_TOKEN}
        timeout: 60
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tesk.client.errors import ProfileError
from tesk.client.profile_file import SECRETS, Profile, ProfileFile, Value, read_profiles
from tesk.client.target import DEFAULT_TIMEOUT, Target

__all__ = [
    "DEFAULT_SERVER",
    "Choice",
    "choose",
    "credentials",
    "file_path",
    "find_target",
    "profile_file",
    "profile_target",
    "shown_address",
]

DEFAULT_SERVER = "http://127.0.0.1:8000"
_ADDRESSES = ("TESK_URL", "TES_URL")
_REFERENCE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Choice:
    """What is in force: the name of a profile, or an address; and why, as text for people."""

    profile: str | None
    server: str | None
    why: str


def find_target(
    server: str | None = None, profile: str | None = None, environ: Mapping[str, str] | None = None
) -> Target:
    """The server to speak with; `environ` is the process's own environment when None.

    Raises ProfileError when the file is wrong, the profile is not in it, or what it refers to is not there.
    """
    env = os.environ if environ is None else environ
    needed = server is None and (profile is not None or not any(env.get(one) for one in _ADDRESSES))
    # whoever names an address is not stopped by a file that is not even used
    file = profile_file(env) if needed else None
    found = choose(file, server, profile, env)
    if found.server is not None:
        return Target(found.server, source=found.why)
    assert file is not None
    assert found.profile is not None
    return profile_target(file, found.profile, env, found.why)


def choose(file: ProfileFile | None, server: str | None, profile: str | None, environ: Mapping[str, str]) -> Choice:
    """What is in force; raises ProfileError when that is a profile which the file has not."""
    if server is not None:
        return Choice(None, server, "--server")
    if profile is not None:
        return _named(file, profile, "--profile", environ)
    for name in _ADDRESSES:
        if environ.get(name):
            return Choice(None, environ[name], f"${name}")
    if environ.get("TESK_PROFILE"):
        return _named(file, environ["TESK_PROFILE"], "$TESK_PROFILE", environ)
    if file is not None and file.default is not None:
        return Choice(file.default, None, f"the default of {file.path}")
    if environ.get("FUNNEL_SERVER"):
        return Choice(None, environ["FUNNEL_SERVER"], "$FUNNEL_SERVER")
    return Choice(None, DEFAULT_SERVER, "nothing else is named")


def _named(file: ProfileFile | None, name: str, who: str, environ: Mapping[str, str]) -> Choice:
    if file is not None and name in file.profiles:
        return Choice(name, None, who)
    if file is None:
        where = file_path(environ)
        raise ProfileError(f"there is no profile {name!r} ({who}): {where} does not exist; write your profiles there.")
    known = ", ".join(file.profiles) or "none"
    raise ProfileError(f"{file.path}: there is no profile {name!r} ({who}); there are: {known}.")


def file_path(environ: Mapping[str, str]) -> Path:
    """Where the file is, or would be."""
    if environ.get("TESK_CLIENT_CONFIG"):
        return Path(environ["TESK_CLIENT_CONFIG"])
    base = environ.get("XDG_CONFIG_HOME", "")
    root = Path(base) if base.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".config"
    return root / "tesk" / "client.yaml"


def profile_file(environ: Mapping[str, str]) -> ProfileFile | None:
    """The file of profiles, None when there is none.

    Raises ProfileError, with every fault and its line, when it cannot be used.
    """
    path = file_path(environ)
    if not path.is_file():
        if environ.get("TESK_CLIENT_CONFIG"):
            raise ProfileError(f"{path}: there is no such file, although $TESK_CLIENT_CONFIG names it.")
        return None
    return read_profiles(path)


def profile_target(file: ProfileFile, name: str, environ: Mapping[str, str], why: str) -> Target:
    """The profile as a Target: references looked up, files of secrets read.

    Raises ProfileError when one of them is not there.
    """
    profile = file.profiles[name]
    resolving = _Resolving(file, environ)
    values = {key: resolving.text(value) for key, value in profile.values.items() if isinstance(value.value, str)}
    headers = {key: resolving.text(value) for key, value in profile.headers.items()}
    for secret in SECRETS:
        named = profile.values.get(f"{secret}_file")
        if named is not None:
            values[secret] = resolving.secret(named, values[f"{secret}_file"])
    if resolving.faults:
        raise ProfileError(*resolving.faults)
    timeout, verify = profile.values.get("timeout"), profile.values.get("verify")
    return Target(
        url=values["url"],
        token=values.get("token"),
        user=values.get("user"),
        password=values.get("password"),
        headers=headers,
        timeout=DEFAULT_TIMEOUT if timeout is None else float(timeout.value),
        ca=str(resolving.path(values["ca"])) if "ca" in values else None,
        verify=verify is None or bool(verify.value),
        source=f"profile {name} ({why})",
        warnings=(*_open_secrets(file), *resolving.warnings),
    )


def shown_address(profile: Profile) -> str:
    """The address as the file has it, without what may be secret in it."""
    found = re.sub(r"//[^/@]*@", "//", str(profile.values["url"].value))
    return re.split(r"[?#]", found)[0]


def credentials(profile: Profile) -> str:
    """What the profile shows the server, in words; never the secret itself."""
    values = profile.values
    said = []
    if "user" in values:
        said.append("user")
    for secret in SECRETS:
        if secret in values:
            said.append(f"{secret} {_origin(values[secret])}")
        if f"{secret}_file" in values:
            said.append(f"{secret} from {values[f'{secret}_file'].value}")
    said += [f"header {name} {_origin(value)}" for name, value in profile.headers.items()]
    if re.search(r"//[^/@]*@", str(values["url"].value)):
        said.append("user in the url")
    return ", ".join(said) or "none"


def _origin(value: Value) -> str:
    names = [f"${one[1]}" for one in _REFERENCE.finditer(str(value.value)) if one[1]]
    return f"from {', '.join(names)}" if names and not _is_literal(value) else "in the file"


class _Resolving:
    """Looks up what a profile refers to; faults and warnings gather."""

    def __init__(self, file: ProfileFile, environ: Mapping[str, str]) -> None:
        self._file = file
        self._environ = environ
        self.faults: list[str] = []
        self.warnings: list[str] = []

    def text(self, value: Value) -> str:
        """`value` with each `${NAME}` replaced; `$$` stands for `$`."""

        def replaced(found: re.Match[str]) -> str:
            name = found[1]
            if name is None:
                return "$"
            if not self._environ.get(name):
                self._fault(value, f"the environment variable {name} is not set")
            return self._environ.get(name, "")

        return _REFERENCE.sub(replaced, str(value.value))

    def secret(self, value: Value, name: str) -> str:
        """What stands in the file `name`, without white space around it."""
        path = self.path(name)
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            self._fault(value, f"{path} cannot be read: {reason}")
            return ""
        if not text:
            self._fault(value, f"{path} is empty")
        if _others_can_read(path):
            self.warnings.append(_warning(path))
        return text

    def path(self, name: str) -> Path:
        """A file's name, relative to where the file of profiles is; `~` is the user's home."""
        if name.startswith("~/") and self._environ.get("HOME"):
            return Path(self._environ["HOME"], name[2:])
        return self._file.path.parent / name

    def _fault(self, value: Value, sentence: str) -> None:
        self.faults.append(f"{self._file.path}:{value.line}: {sentence}.")


def _open_secrets(file: ProfileFile) -> list[str]:
    return [_warning(file.path)] if _holds_secret(file) and _others_can_read(file.path) else []


def _holds_secret(file: ProfileFile) -> bool:
    """Whether a secret stands in the file itself, not only where to find one."""
    return any(_is_literal(value) for profile in file.profiles.values() for value in _secrets_of(profile))


def _secrets_of(profile: Profile) -> list[Value]:
    found = [value for key, value in profile.values.items() if key in SECRETS] + list(profile.headers.values())
    url = profile.values["url"]
    password = re.search(r"//[^/@:]*:([^/@]*)@", str(url.value))
    return [*found, Value(password[1], url.line)] if password else found


def _is_literal(value: Value) -> bool:
    left: Any = _REFERENCE.sub("", str(value.value))
    # "Bearer ${TOKEN}" holds none
    return bool(re.sub(r"(?i)^(bearer|basic|token)\s*", "", left).strip())


def _others_can_read(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except OSError:
        return False


def _warning(path: Path) -> str:
    return f"{path} holds a secret and others can read it: chmod 600 {path}"
