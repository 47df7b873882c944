"""The calls that tesk makes to a Kubernetes API server, all in one namespace."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx2
import msgspec
from lightkube.core.selector import build_selector
from lightkube.models.meta_v1 import DeleteOptions, ObjectMeta, Preconditions
from lightkube.resources.core_v1 import Pod

from tesk.backends.kubernetes.account import ACCOUNT, find_account, in_pod
from tesk.backends.kubernetes.api import Api, Call, Kind, Listed, decode, kind_of, path_of
from tesk.backends.kubernetes.errors import Expired, Gone, NameTaken, Refused, StillThere
from tesk.backends.kubernetes.labels import ATTEMPT, EXECUTOR, STEP, TASK
from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.backends.kubernetes.pace import Deadline, Pace

__all__ = ["GUARD_LABELS", "Cluster", "Page", "Selector"]

K = TypeVar("K", bound=Kind)
T = TypeVar("T")

Selector = Mapping[str, Any]
"""Labels to select by: a value, several of which one must hold, None for any, or an operator of lightkube.operators."""

Objects = list[T]
Page = tuple[str, list[K]]
"""A part of a list, with the version (`resourceVersion`) that the whole list is of."""

GUARD_LABELS = (TASK, ATTEMPT, STEP, EXECUTOR)
"""An object is the one we mean when all of these agree; the first must be there."""

_PAGE = 100
_PAGE_OF_METADATA = 500
_DELETES_AT_ONCE = 16
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"


class _MetadataOnly(msgspec.Struct):
    metadata: ObjectMeta


class Cluster:
    """A connection to one namespace of a cluster; share one of it in a process, with its budget of requests.

    Every call ends within `within` seconds (default: `patience`), apart from waiting for its place in the budget.
    Faults that may pass are tried again until then. Calls raise the errors of `tesk.backends.kubernetes.errors`:
    `Unreachable` when the time is up, `Refused` at once. May be used as `async with`.
    """

    def __init__(self, client: httpx2.AsyncClient, namespace: str, pace: Pace, *, patience: float = 30.0) -> None:
        self._client = client
        self._patience = patience
        self.api = Api(client, pace)
        self.namespace = namespace

    @classmethod
    def connect(
        cls,
        kubeconfig: str | None = None,
        context: str | None = None,
        namespace: str | None = None,
        *,
        qps: float = 50.0,
        burst: int = 100,
        environ: Mapping[str, str] | None = None,
        account: Path = ACCOUNT,
    ) -> Cluster:
        """Find the cluster and make a client for it; nothing is sent yet.

        In a pod it is that of the pod's own service account, in `account`, unless a kubeconfig or a context is named;
        else see `find_config`. Without `namespace` it is the pod's own, or the context's. Raises NoCluster.
        """
        environ = os.environ if environ is None else environ
        if kubeconfig is None and context is None and in_pod(environ, account):
            client, own = find_account(environ, account)
        else:
            from tesk.backends.kubernetes.connection import find_config, open_client

            config = find_config(kubeconfig, context, environ=environ)
            client, own = open_client(config, environ), config.namespace
        return cls(client, namespace or own, Pace(qps, burst))

    @classmethod
    def of_site(cls, options: KubernetesOptions) -> Cluster:
        """The cluster that the site's options name (see `connect`)."""
        return cls.connect(
            options.kubeconfig or None,
            options.context or None,
            options.namespace or None,
            qps=options.qps,
            burst=options.burst,
        )

    async def __aenter__(self) -> Cluster:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @property
    def host(self) -> str:
        """The API server's name or address."""
        return self._client.base_url.host

    @property
    def sent(self) -> Counter[str]:
        """How many requests were sent, by method and collection, such as `POST jobs`."""
        return self.api.sent

    async def create(self, obj: K, *, within: float | None = None) -> K:
        """The object as the server has it, whether this call made it or an earlier one.

        One that is already there counts when its `GUARD_LABELS` agree with those of `obj`. Raises NameTaken where they
        do not, StillThere where the object is being deleted, and Refused (quota, rights, not valid).
        """
        deadline = self._deadline(within)
        while True:
            try:
                return await self._post(obj, deadline)
            except Refused as error:
                if not _exists_already(error):
                    raise
                refused = error
            there = await self._get(type(obj), _name(obj), deadline)
            if there is not None:
                return _ours(obj, there)
            await deadline.pause(refused)

    async def get(self, kind: type[K], name: str, *, within: float | None = None) -> K | None:
        """The object, or None when it is certain that there is none."""
        return await self._get(kind, name, self._deadline(within))

    async def replace_or_create(self, obj: K, *, uid: str | None = None, within: float | None = None) -> K:
        """Put `obj` in the place of the one that is there, whatever its version; or make it.

        With the `uid` of the last answer this is one request. An object that is not ours (see `create`) is left alone:
        NameTaken. Raises StillThere where it is being deleted.
        """
        deadline = self._deadline(within)
        while True:
            if uid is not None:
                try:
                    return await self._put(obj, uid, deadline)
                except Gone as error:
                    refused: Exception = error
                except Refused as error:
                    if error.reason != "Conflict":
                        raise
                    refused = error
                await deadline.pause(refused)
            there = await self._get(type(obj), _name(obj), deadline)
            if there is None:
                return await self.create(obj, within=deadline.left())
            assert there.metadata is not None
            uid = _ours(obj, there).metadata.uid  # type: ignore[union-attr]

    async def delete(
        self,
        kind: type[Kind],
        name: str,
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
        within: float | None = None,
    ) -> None:
        """Ask for the object's end, and that of all it owns, in the background; its absence is fine.

        With `uid`, an object of another uid is left alone. The object may live on for a while: see `get`.
        """
        options = DeleteOptions(
            propagationPolicy="Background",
            gracePeriodSeconds=grace_seconds,
            preconditions=Preconditions(uid=uid) if uid else None,
        )
        call = Call(f"delete {kind_of(kind)} {name}", "DELETE", path_of(kind, self.namespace, name), body=options)
        try:
            await self.api.send(call, self._deadline(within))
        except Gone:
            return
        except Refused as error:
            if uid is None or error.reason != "Conflict":
                raise

    async def delete_all(
        self,
        kind: type[Kind],
        labels: Selector,
        *,
        grace_seconds: int | None = None,
        within: float | None = None,
    ) -> int:
        """Ask for the end of every object with `labels`, one by one (no right to `deletecollection` is needed).

        Returns how many there were: 0 means that nothing was left. Raises ValueError for an empty selector.
        """
        if not labels:
            raise ValueError("delete_all needs labels: without, it would delete what is not ours")
        deadline = self._deadline(within)
        some = asyncio.Semaphore(_DELETES_AT_ONCE)

        async def end(meta: ObjectMeta) -> None:
            async with some:
                assert meta.name is not None
                left = max(1.0, deadline.left())
                await self.delete(kind, meta.name, uid=meta.uid, grace_seconds=grace_seconds, within=left)

        found = await self.list_metadata(kind, labels, within=deadline.left())
        ends = await asyncio.gather(*map(end, found), return_exceptions=True)
        for error in ends:
            if error is not None:
                raise error
        return len(found)

    async def list(
        self, kind: type[K], labels: Selector, *, fields: Selector | None = None, within: float | None = None
    ) -> Objects[K]:
        """Every object with `labels`, as of now."""
        deadline = self._deadline(within)
        return await self._whole(lambda: self.pages(kind, labels, fields, deadline=deadline), deadline)

    async def list_metadata(
        self, kind: type[Kind], labels: Selector, *, within: float | None = None
    ) -> Objects[ObjectMeta]:
        """Name, uid, labels and the like of every object with `labels`, without what is large in them."""
        deadline = self._deadline(within)
        params = {"limit": str(_PAGE_OF_METADATA), **selecting(labels, None)}
        found = await self._whole(
            lambda: self._pages(kind, _MetadataOnly, params, deadline, accept=_METADATA_ONLY), deadline
        )
        return [one.metadata for one in found]

    def pages(
        self,
        kind: type[K],
        labels: Selector,
        fields: Selector | None = None,
        *,
        deadline: Deadline,
        size: int = _PAGE,
    ) -> AsyncIterator[Page[K]]:
        """The same, some at a time, so that memory holds few of them whole. Raises Expired when it took too long."""
        return self._pages(kind, kind, {"limit": str(size), **selecting(labels, fields)}, deadline)

    async def _pages(
        self,
        kind: type[Kind],
        item: type[T],
        params: Mapping[str, str],
        deadline: Deadline,
        *,
        accept: str | None = None,
    ) -> AsyncIterator[tuple[str, Objects[T]]]:
        """Each page of the list of `kind`, of which `item` is read."""
        params = dict(params)
        while True:
            call = Call(f"list {kind_of(kind)}s", "GET", path_of(kind, self.namespace), params, accept=accept)
            listed = decode(await self.api.send(call, deadline), Listed[item])  # type: ignore[valid-type]
            yield listed.metadata.resourceVersion, listed.items or []
            if not listed.metadata.more:
                return
            params["continue"] = listed.metadata.more

    @staticmethod
    async def _whole(pages: Callable[[], AsyncIterator[tuple[str, Objects[T]]]], deadline: Deadline) -> Objects[T]:
        """All that is on the pages; from the first again where the server has forgotten the list meanwhile."""
        while True:
            try:
                return [item async for _, page in pages() for item in page]
            except Expired as error:
                await deadline.pause(error)

    async def log(
        self,
        pod: str,
        container: str,
        *,
        tail_lines: int | None = None,
        limit_bytes: int | None = None,
        follow: bool = False,
    ) -> AsyncGenerator[bytes]:
        """What the container has written, as the node kept it; with `follow`, until it ends. Not tried again.

        Nodes keep lines: containerd drops a carriage return before a line feed, and mixes stdout and stderr. A pod
        without a node gives nothing, also with `follow`. Raises Refused (400) while the container has not started, and
        Gone when there is no such pod. Close the iterator when you leave it early.
        """
        params = {"container": container}
        if tail_lines is not None:
            params["tailLines"] = str(tail_lines)
        if limit_bytes is not None:
            params["limitBytes"] = str(limit_bytes)
        if follow:
            params["follow"] = "true"
        call = Call(
            f"read the log of pod {pod}", "GET", path_of(Pod, self.namespace, pod) + "/log", params, accept="*/*"
        )
        async with self.api.stream(call, silence=None if follow else 60.0) as blocks:
            async for block in blocks:
                yield block

    def _deadline(self, within: float | None) -> Deadline:
        return Deadline(self._patience if within is None else within)

    async def _post(self, obj: K, deadline: Deadline) -> K:
        kind = type(obj)
        call = Call(f"create {kind_of(kind)} {_name(obj)}", "POST", path_of(kind, self.namespace), body=obj)
        return decode(await self.api.send(call, deadline), kind)

    async def _put(self, obj: K, uid: str, deadline: Deadline) -> K:
        kind, name = type(obj), _name(obj)
        whole = msgspec.to_builtins(obj)
        whole["metadata"]["uid"] = uid
        call = Call(f"replace {kind_of(kind)} {name}", "PUT", path_of(kind, self.namespace, name), body=whole)
        return decode(await self.api.send(call, deadline), kind)

    async def _get(self, kind: type[K], name: str, deadline: Deadline) -> K | None:
        call = Call(f"get {kind_of(kind)} {name}", "GET", path_of(kind, self.namespace, name))
        try:
            return decode(await self.api.send(call, deadline), kind)
        except Gone:
            return None


def selecting(labels: Selector, fields: Selector | None) -> dict[str, str]:
    """The query parameters that select by labels and fields."""
    params = {}
    if labels:
        params["labelSelector"] = build_selector(dict(labels))
    if fields:
        params["fieldSelector"] = build_selector(dict(fields), for_fields=True)
    return params


def _exists_already(error: Refused) -> bool:
    return error.code == 409 and error.reason == "AlreadyExists"


def _name(obj: Kind) -> str:
    name = obj.metadata.name if obj.metadata else None
    if not name:
        raise ValueError(f"a {kind_of(type(obj))} needs a name")
    return name


def _ours(wanted: K, there: K) -> K:
    """`there`, when it is what an earlier call of ours made."""
    assert wanted.metadata is not None
    assert there.metadata is not None
    want, have = wanted.metadata.labels or {}, there.metadata.labels or {}
    what = f"{kind_of(type(wanted))} {wanted.metadata.name}"
    if not want.get(GUARD_LABELS[0]) or any(want.get(key) != have.get(key) for key in GUARD_LABELS):
        raise NameTaken(f"{what} exists already and belongs to something else; it was left as it is")
    if there.metadata.deletionTimestamp is not None:
        raise StillThere(f"{what} of an earlier try is still being deleted")
    return there
