"""Bearer tokens from a credential plugin, as the large clouds' kubeconfigs ask for (client.authentication.k8s.io)."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

import httpx2
from lightkube.config.models import UserExec

from tesk.backends.kubernetes.errors import NoCluster

__all__ = ["PluginToken"]

_VERSIONS = tuple(f"client.authentication.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1"))
_TIME_FOR_PLUGIN = 60.0
_RENEW_BEFORE_END = 60.0


class PluginToken(httpx2.Auth):
    """Runs the plugin when there is no token, when it is about to end, and when the server refuses it (401).

    lightkube's own does not know `v1`, runs the plugin once for every request that waits for it, and waits without end.
    """

    def __init__(self, plugin: UserExec, environ: Mapping[str, str], clock: Callable[[], float] = time.time) -> None:
        if plugin.apiVersion not in _VERSIONS:
            raise NoCluster(f"the credential plugin {plugin.command} speaks {plugin.apiVersion}, which tesk does not")
        self._plugin = plugin
        self._environ = environ
        self._clock = clock
        self._bearer: str | None = None
        self._until: float | None = None
        self._one_at_a_time = asyncio.Lock()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """See httpx2.Auth."""
        bearer = await self._current()
        request.headers["authorization"] = bearer
        answer = yield request
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            request.headers["authorization"] = await self._current(refused=bearer)
            yield request

    async def _current(self, refused: str | None = None) -> str:
        async with self._one_at_a_time:
            ending = self._until is not None and self._clock() > self._until - _RENEW_BEFORE_END
            if self._bearer is None or ending or self._bearer == refused:
                self._take(await self._run())
            assert self._bearer is not None
            return self._bearer

    def _take(self, said: bytes) -> None:
        try:
            status: dict[str, Any] = json.loads(said)["status"]
            self._bearer = f"Bearer {status['token']}"
            until = status.get("expirationTimestamp")
            self._until = datetime.fromisoformat(until).timestamp() if until else None
        except (ValueError, KeyError, TypeError) as error:
            raise NoCluster(f"the credential plugin {self._plugin.command} gave no token") from error

    async def _run(self) -> bytes:
        name = self._plugin.command
        asked = {"apiVersion": self._plugin.apiVersion, "kind": "ExecCredential", "spec": {"interactive": False}}
        environ = {
            **self._environ,
            **{variable.name: variable.value for variable in self._plugin.env or ()},
            "KUBERNETES_EXEC_INFO": json.dumps(asked),
        }
        try:
            process = await asyncio.create_subprocess_exec(
                name,
                *(self._plugin.args or ()),
                env=environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise NoCluster(f"the credential plugin {name} does not start: {os.strerror(error.errno or 0)}") from error
        try:
            async with asyncio.timeout(_TIME_FOR_PLUGIN):
                out, complaint = await process.communicate()
        except TimeoutError as error:
            raise NoCluster(f"the credential plugin {name} gave no token in {_TIME_FOR_PLUGIN:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
            raise NoCluster(f"the credential plugin {name} ended with {process.returncode}: {last[:200]}")
        return out
