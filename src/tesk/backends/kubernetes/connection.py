"""Where the cluster is and who we are there, as a kubeconfig says."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import yaml
from lightkube import ConfigError, KubeConfig, SingleConfig
from lightkube.config import models
from lightkube.config.client_adapter import user_auth, verify_cluster

from tesk.backends.kubernetes.account import open_http
from tesk.backends.kubernetes.credentials import PluginToken
from tesk.backends.kubernetes.errors import NoCluster

__all__ = ["find_config", "open_client"]

_FILES_IN_ENTRIES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def find_config(
    kubeconfig: str | None, context: str | None, *, environ: Mapping[str, str] = os.environ
) -> SingleConfig:
    """The cluster, the user and the namespace to work with.

    In this order: the file that is named; the files of `$KUBECONFIG`, merged as kubectl merges them; `~/.kube/config`.
    Raises NoCluster.
    """
    named = kubeconfig or environ.get("KUBECONFIG") or str(Path(environ.get("HOME", "~")) / ".kube" / "config")
    paths = [Path(path).expanduser() for path in named.split(os.pathsep) if path]
    try:
        found = KubeConfig.from_dict(_merged(paths)).get(context)
    except (ConfigError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise NoCluster(f"cannot use the kubeconfig {named}: {error}") from error
    assert found is not None
    return found


def open_client(config: SingleConfig, environ: Mapping[str, str] = os.environ) -> httpx2.AsyncClient:
    """An HTTP client that trusts and is trusted by the cluster of `config`. Raises NoCluster."""
    user = config.user or models.User()
    try:
        verify = verify_cluster(config.cluster, user, config.abs_file)
        if user.exec is not None and user.token is None and user.token_file is None:
            auth: httpx2.Auth | None = PluginToken(user.exec, environ)
        else:
            auth = user_auth(user)
    except (ConfigError, OSError, ssl.SSLError, ValueError) as error:
        raise NoCluster(f"cannot use what the kubeconfig says of {config.cluster.server}: {error}") from error
    return open_http(config.cluster.server, verify, auth)


def _merged(paths: Sequence[Path]) -> dict[str, Any]:
    """The entries of all files that are there; the first that says something wins."""
    present = [path for path in paths if path.is_file()]
    if not present:
        shown = ", ".join(map(str, paths))
        raise NoCluster(
            f"there is no Kubernetes cluster to use: this is no pod of one, and there is no kubeconfig at {shown}; "
            "name yours with the setting kubernetes.kubeconfig or the variable KUBECONFIG"
        )
    whole: dict[str, Any] = {}
    for path in present:
        for key, value in _read(path).items():
            whole.setdefault(key, value)
            if isinstance(value, list) and whole[key] is not value:
                names = {entry["name"] for entry in whole[key]}
                whole[key] = [*whole[key], *(entry for entry in value if entry["name"] not in names)]
    return {key: value for key, value in whole.items() if value is not None}


def _read(path: Path) -> dict[str, Any]:
    """One kubeconfig, with the files it names as absolute paths."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NoCluster(f"cannot read the kubeconfig {path}: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise NoCluster(f"{path} is no kubeconfig")
    for entry in _entries(document):
        for key in _FILES_IN_ENTRIES:
            if entry.get(key):
                entry[key] = str(path.absolute().parent / entry[key])
    for user in document.get("users") or ():
        plugin = (user.get("user") or {}).get("exec") or {}
        if os.sep in plugin.get("command", ""):
            plugin["command"] = str(path.absolute().parent / plugin["command"])
    return document


def _entries(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for kinds, kind in (("clusters", "cluster"), ("users", "user")):
        for entry in document.get(kinds) or ():
            if isinstance(entry.get(kind), dict):
                yield entry[kind]
