"""As whom to log in to an FTP server: what the URL says, a netrc file, the variables of the old TESK, or anonymous."""

from __future__ import annotations

import netrc
from typing import NamedTuple

from tesk.storage.errors import StorageError
from tesk.storage.options import FtpOptions

__all__ = ["ANONYMOUS", "Login", "logins"]


class Login(NamedTuple):
    """A user and a password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.user!r})"


ANONYMOUS = Login("anonymous", "anonymous@")


def logins(options: FtpOptions, host: str, given: Login | None) -> tuple[Login, ...]:
    """As whom to log in to `host`, one after the other until one is let in; `given` is what the URL says.

    What the URL or the netrc file says is for this host and stands alone; what the variables say is for no host in
    particular, so that a server that does not know it is asked again as anonymous. Raises StorageError for a netrc
    file that cannot be read.
    """
    if given is not None:
        return (given,)
    named = _from_netrc(options.netrc, host) if options.netrc else None
    if named is not None:
        return (named,)
    if options.username:
        return (Login(options.username, options.password or ""), ANONYMOUS)
    return (ANONYMOUS,)


def _from_netrc(path: str, host: str) -> Login | None:
    try:
        found = netrc.netrc(path).authenticators(host)
    except FileNotFoundError:
        return None
    except netrc.NetrcParseError as error:  # its message may quote a password
        raise StorageError(f"{path} cannot be read as a netrc file: line {error.lineno} is none of its words") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} cannot be read as a netrc file: {type(error).__name__}") from None
    return None if found is None else Login(found[0] or ANONYMOUS.user, found[2] or "")
