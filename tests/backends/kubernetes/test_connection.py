"""Where the cluster is and who we are: pods' accounts, kubeconfigs, credential plugins."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import stat
from pathlib import Path
from typing import Any

import certifi
import pytest
import yaml
from lightkube import SingleConfig
from lightkube.config import models
from lightkube.resources.core_v1 import ConfigMap
from tests.backends.kubernetes.fake_api import Asked, Reply, config_map, fake_api, status

from tesk.backends.kubernetes.account import FileToken, open_http
from tesk.backends.kubernetes.cluster import Cluster
from tesk.backends.kubernetes.connection import find_config, open_client
from tesk.backends.kubernetes.errors import NoCluster
from tesk.backends.kubernetes.pace import Pace


def kubeconfig(path: Path, name: str, **entries: Any) -> Path:
    """A kubeconfig whose cluster, user and context are all called `name`."""
    document = {
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.test", **entries.get("cluster", {})}}],
        "users": [{"name": name, "user": entries.get("user", {"token": f"token-{name}"})}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": f"of-{name}"}}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """What a pod finds of its service account."""
    directory = tmp_path / "account"
    directory.mkdir()
    (directory / "token").write_text("pod-token")
    (directory / "namespace").write_text("pods-own\n")
    shutil.copy(certifi.where(), directory / "ca.crt")
    return directory


POD = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}


def test_pod_uses_its_own_account_and_namespace(account: Path) -> None:
    found = Cluster.connect(environ=POD, account=account)
    assert (found.api.server, found.namespace) == ("https://[fd00::1]", "pods-own")


def test_named_file_goes_before_the_pods_account(tmp_path: Path, account: Path) -> None:
    named = kubeconfig(tmp_path / "named", "one")
    assert Cluster.connect(str(named), environ=POD, account=account).namespace == "of-one"


@pytest.mark.parametrize("missing", ["namespace", "ca.crt"])
def test_an_account_without_its_files_is_told(account: Path, missing: str) -> None:
    (account / missing).unlink()
    with pytest.raises(NoCluster, match="service account in"):
        Cluster.connect(environ=POD, account=account)


async def test_a_token_that_the_kubelet_renewed_is_read_again(account: Path) -> None:
    seen = []

    async def once_refused(asked: Asked, reply: Reply) -> None:
        seen.append(asked.headers["authorization"])
        if len(seen) == 1:
            (account / "token").write_text("renewed")
            await reply.send(status(401, "Unauthorized"), 401)
        else:
            await reply.send(config_map("one"))

    async with fake_api(once_refused, once_refused, once_refused) as api:
        http = open_http(api.url, ssl.create_default_context(), FileToken(account / "token"))
        async with Cluster(http, "here", Pace(1000.0, 1000)) as cluster:
            for _ in range(2):
                assert await cluster.get(ConfigMap, "one") is not None
    assert seen == ["Bearer pod-token", "Bearer renewed", "Bearer renewed"]


def test_files_of_the_variable_are_merged_and_the_first_wins(tmp_path: Path) -> None:
    first = kubeconfig(tmp_path / "a" / "config", "one", cluster={"certificate-authority": "ca.crt"})
    second = kubeconfig(tmp_path / "b" / "config", "two", user={"client-certificate": "me.crt"})
    environ = {"KUBECONFIG": f"{first}:{tmp_path / 'absent'}:{second}"}
    one, two = (find_config(None, context, environ=environ) for context in (None, "two"))
    assert (one.namespace, two.namespace) == ("of-one", "of-two")
    assert one.cluster.certificate_auth == str(tmp_path / "a" / "ca.crt")
    assert two.user is not None
    assert two.user.client_cert == str(tmp_path / "b" / "me.crt")


def test_home_is_the_last_place_to_look(tmp_path: Path) -> None:
    kubeconfig(tmp_path / ".kube" / "config", "home")
    assert find_config(None, None, environ={"HOME": str(tmp_path)}).namespace == "of-home"


@pytest.mark.parametrize(
    ("text", "context", "sentence"),
    [
        (None, None, "there is no Kubernetes cluster to use"),
        ("[", None, "cannot read the kubeconfig"),
        ("[]", None, "is no kubeconfig"),
        ("{}", None, "cannot use the kubeconfig"),
        ("clusters: 5\ncontexts: []", None, "cannot use the kubeconfig|is no kubeconfig"),
        ("clusters: []\ncontexts: []", None, "current context"),
        ("clusters: []\ncontexts: []", "mine", "Context 'mine' not found"),
    ],
)
def test_kubeconfig_that_does_not_serve_is_told(
    tmp_path: Path, text: str | None, context: str | None, sentence: str
) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(NoCluster, match=sentence):
        find_config(str(path), context, environ={})


def test_missing_authority_file_is_told(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "config", "one", cluster={"certificate-authority": "absent.crt"})
    with pytest.raises(NoCluster, match=r"https://one\.test"):
        open_client(find_config(str(path), None, environ={}))


def plugin(tmp_path: Path, script: str, version: str = "v1") -> models.User:
    """A user whose token a program gives; the program counts its runs in `runs`."""
    program = tmp_path / "plugin"
    program.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    api = f"client.authentication.k8s.io/{version}"
    return models.User(exec=models.UserExec(api, str(program), env=[models.NameValue("TOKEN", "from-env")]))


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text().splitlines())


def config_for(url: str, user: models.User) -> SingleConfig:
    return SingleConfig("one", models.Context("one", "one"), models.Cluster(url), user)


TOKEN = """echo '{"status": {"token": "'$TOKEN'"}}'"""


async def test_plugin_runs_once_for_many_calls_and_again_when_its_token_is_refused(tmp_path: Path) -> None:
    refused: set[int] = set()

    async def guarded(asked: Asked, reply: Reply) -> None:
        if asked.headers["authorization"] != "Bearer from-env" or runs(tmp_path) in refused:
            await reply.send(status(401, "Unauthorized"), 401)
        else:
            await reply.send(config_map("one"))

    async with fake_api(guarded) as api:
        client = open_client(config_for(api.url, plugin(tmp_path, TOKEN)), {"PATH": "/usr/bin:/bin"})
        async with Cluster(client, "here", Pace(1000.0, 1000)) as cluster:
            await asyncio.gather(*(cluster.get(ConfigMap, "one") for _ in range(5)))
            assert runs(tmp_path) == 1
            refused.add(1)
            await cluster.get(ConfigMap, "one")
            assert runs(tmp_path) == 2


async def test_plugins_token_is_renewed_before_it_ends(tmp_path: Path) -> None:
    script = """echo '{"status": {"token": "t", "expirationTimestamp": "2020-01-01T00:00:00Z"}}'"""

    async def open_door(asked: Asked, reply: Reply) -> None:
        await reply.send(config_map("one"))

    async with fake_api(open_door) as api:
        client = open_client(config_for(api.url, plugin(tmp_path, script)), {"PATH": "/usr/bin:/bin"})
        async with Cluster(client, "here", Pace(1000.0, 1000)) as cluster:
            await cluster.get(ConfigMap, "one")
            await cluster.get(ConfigMap, "one")
            assert runs(tmp_path) == 2


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo please log in >&2; exit 3", "ended with 3: please log in"),
        ("echo nothing", "gave no token"),
        ("echo '{\"status\": {}}'", "gave no token"),
    ],
)
async def test_plugin_that_fails_is_told(tmp_path: Path, script: str, sentence: str) -> None:
    client = open_client(config_for("http://127.0.0.1:9", plugin(tmp_path, script)), {"PATH": "/usr/bin:/bin"})
    async with Cluster(client, "here", Pace(1000.0, 1000)) as cluster:
        with pytest.raises(NoCluster, match=sentence):
            await cluster.get(ConfigMap, "one")


async def test_plugin_that_is_not_installed_is_told() -> None:
    user = models.User(exec=models.UserExec("client.authentication.k8s.io/v1beta1", "no-such-plugin"))
    async with Cluster(open_client(config_for("http://127.0.0.1:9", user), {}), "here", Pace(1000.0, 1000)) as cluster:
        with pytest.raises(NoCluster, match="no-such-plugin does not start: No such file"):
            await cluster.get(ConfigMap, "one")


def test_plugin_of_an_unknown_version_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match=r"speaks client\.authentication\.k8s\.io/v9"):
        open_client(config_for("http://127.0.0.1:9", plugin(tmp_path, TOKEN, version="v9")))


def test_plugin_beside_its_kubeconfig_is_found(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./bin/login"}}
    path = kubeconfig(tmp_path / "config", "one", user=user)
    found = find_config(str(path), None, environ={}).user
    assert found is not None
    assert found.exec is not None
    assert Path(found.exec.command) == tmp_path / "bin" / "login"
