"""A pod's own account at its cluster, and the HTTP client for a cluster.

Without what only a kubeconfig needs: a taskmaster would spend a tenth of its processor time on importing that.
"""

from __future__ import annotations

import ssl
from collections.abc import Generator, Mapping
from http import HTTPStatus
from pathlib import Path

import httpx2
from lightkube.core.exceptions import ConfigError

from tesk import __version__
from tesk.backends.kubernetes.errors import NoCluster

__all__ = ["ACCOUNT", "CONNECT_SECONDS", "SILENCE_SECONDS", "FileToken", "find_account", "in_pod", "open_http"]

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts what a pod needs to speak to the API server."""

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 20.0

_KEPT_CONNECTIONS = 100
_KEPT_SECONDS = 60.0


def in_pod(environ: Mapping[str, str], account: Path = ACCOUNT) -> bool:
    """Whether this is a pod with a service account's token."""
    return bool(environ.get("KUBERNETES_SERVICE_HOST")) and (account / "token").is_file()


def find_account(environ: Mapping[str, str], account: Path = ACCOUNT) -> tuple[httpx2.AsyncClient, str]:
    """A client for the cluster that this pod is in, and the pod's namespace. Raises NoCluster."""
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        namespace = (account / "namespace").read_text().strip()
        verify = ssl.create_default_context(cafile=str(account / "ca.crt"))
    except (OSError, ssl.SSLError) as error:
        raise NoCluster(f"this pod's service account in {account} cannot be used: {error}") from error
    return open_http(server, verify, FileToken(account / "token")), namespace


def open_http(server: str, verify: ssl.SSLContext, auth: httpx2.Auth | None) -> httpx2.AsyncClient:
    """An HTTP client for the API server at the URL `server`."""
    return httpx2.AsyncClient(
        base_url=server,
        verify=verify,
        auth=auth,
        timeout=httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=None),
        limits=httpx2.Limits(
            max_connections=None, max_keepalive_connections=_KEPT_CONNECTIONS, keepalive_expiry=_KEPT_SECONDS
        ),
        headers={"user-agent": f"tesk/{__version__}", "accept": "application/json"},
        follow_redirects=False,
    )


class FileToken(httpx2.Auth):
    """The token of a file, read again when the server refuses it: the kubelet renews it about every hour."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._bearer: str | None = None

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """See httpx2.Auth. Raises ConfigError while there is no such file."""
        request.headers["authorization"] = self._bearer = self._bearer or self._read()
        answer = yield request
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            request.headers["authorization"] = self._bearer = self._read()
            yield request

    def _read(self) -> str:
        try:
            return f"Bearer {self._file.read_text().strip()}"
        except OSError as error:
            raise ConfigError(f"the token of this pod's service account cannot be read: {error}") from error
