"""Task + site -> plan. Pure: nothing is opened, resolved or looked up here."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from tesk.plan.checks import (
    check_executor,
    check_fields,
    check_parameters,
    check_resources,
    image_name,
    supported_parameters,
)
from tesk.plan.model import Delivery, ExecutorPlan, FileType, Plan, Transfer
from tesk.plan.mounts import FILLED, Claim, lay_out
from tesk.plan.paths import PathError, normalise, within
from tesk.plan.reasons import CannotPlan, Faults, Reason
from tesk.plan.sharing import share
from tesk.plan.site import Site
from tesk.plan.urls import UrlError, normalise_url, place_of
from tesk.tes.models import TesExecutor, TesFileType, TesInput, TesOutput, TesTask
from tesk.tes.wildcards import components, fixed_directory, has_wildcards, literal

__all__ = ["CannotPlan", "Reason", "make_plan", "supported_parameters"]

_NO_REDIRECT = "/dev/null"
_GLOB_OF_CROMWELL = re.compile(r".*/glob-[0-9a-f]{32}/?\Z", re.DOTALL)
"""Cromwell's script makes these directories itself, and tells the user's stderr when one is there already."""


def make_plan(task: TesTask, site: Site, unknown: Sequence[str] = ()) -> Plan:
    """What must happen for `task` on `site`.

    `unknown` are the paths of what `take_unknown` took out of the task.
    Raises CannotPlan with every reason at once.
    """
    return _Planner(site).plan(task, unknown)


class _Planner:
    """One task being planned: faults and claims gather here while its parts are read."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.faults = Faults()
        self.claims: list[Claim] = []
        self.workdirs: list[tuple[str, str]] = []

    def plan(self, task: TesTask, unknown: Sequence[str]) -> Plan:
        notes = check_fields(task, unknown, self.site, self.faults)
        inputs = self._inputs(task.inputs or [])
        outputs = self._outputs(task.outputs or [])
        resources = check_resources(task.resources, self.site, self.faults)
        missing_outputs, parameters, about_parameters = check_parameters(task, self.site, self.faults)
        moved = len(self.claims)
        brought = {one.path for one in self.claims if one.brought and one.type == "FILE"}
        executors = self._executors(task.executors, brought)
        for index, volume in enumerate(task.volumes or []):
            self._claim(volume, "DIRECTORY", f"$.volumes[{index}]", make=True)
        sharing = share(inputs, outputs, [one.path for one in self.claims[moved:]], FILLED, self.site)
        layout = lay_out(self.claims, self.workdirs, self.faults, sharing)
        self.faults.raise_any()
        shared = {one.path for one in sharing.inputs}
        return Plan(
            executors=executors,
            mounts=layout.mounts,
            directories=layout.directories,
            inputs=tuple(one for one in inputs if one.path not in shared),
            outputs=tuple(
                msgspec.structs.replace(one, in_place=True) if one in sharing.in_place else one for one in outputs
            ),
            resources=resources,
            missing_outputs=missing_outputs,
            notes=(*notes, *about_parameters),
            parameters=parameters,
            shared=sharing.mounts,
            shared_inputs=sharing.inputs,
            shared_directories=layout.shared_directories,
        )

    def _path(self, path: str, where: str) -> str | None:
        try:
            return normalise(path)
        except PathError as fault:
            self.faults.add(where, str(fault))
            return None

    def _url(self, url: str, where: str) -> str | None:
        try:
            return normalise_url(url, self.site)
        except UrlError as fault:
            self.faults.add(where, str(fault))
            return None

    def _claim(
        self, path: str, kind: FileType | None, where: str, *, make: bool = False, brought: bool = False
    ) -> str | None:
        normal = self._path(path, where)
        if normal is not None:
            self.claims.append(Claim(normal, kind, where, make, brought))
        return normal

    def _inputs(self, inputs: Sequence[TesInput]) -> tuple[Transfer, ...]:
        found: dict[str | int, Transfer] = {}
        for index, one in enumerate(inputs):
            transfer = self._input(one, f"$.inputs[{index}]")
            if transfer is None:
                continue
            # Of two files for one path the last wins; directories are merged, in order.
            key = transfer.path if transfer.type == "FILE" else index
            found.pop(key, None)
            found[key] = transfer
        return tuple(found.values())

    def _input(self, one: TesInput, where: str) -> Transfer | None:
        kind = _kind(one.type) or "FILE"
        path = self._claim(one.path, kind, f"{where}.path", brought=True)
        if one.content:
            if kind == "DIRECTORY":
                self.faults.add(f"{where}.content", "a directory has no content; leave out type, or give a url instead")
                return None
            return Transfer(path, kind, content=one.content, name=one.name) if path else None
        if one.url:
            url = self._url(one.url, f"{where}.url")
            return Transfer(path, kind, url=url, name=one.name) if path and url else None
        if one.content is None or kind == "DIRECTORY":
            self.faults.add(f"{where}.url", "the input has neither url nor content; give one of them")
            return None
        return Transfer(path, kind, content="", name=one.name) if path else None

    def _outputs(self, outputs: Sequence[TesOutput]) -> tuple[Delivery, ...]:
        found: dict[tuple[str, str, str | None], Delivery] = {}
        paths: dict[str, str] = {}
        for index, one in enumerate(outputs):
            where = f"$.outputs[{index}]"
            delivery = self._output(one, where)
            if delivery is None:
                continue
            found.setdefault((delivery.path, delivery.url, delivery.path_prefix), delivery)
            if delivery.path_prefix is None:
                path = paths.setdefault(delivery.url.rstrip("/"), delivery.path)
                if path != delivery.path:
                    self.faults.add(
                        f"{where}.url",
                        f"'{one.url}' is also the url of '{path}'; give each output its own url",
                    )
        return tuple(found.values())

    def _output(self, one: TesOutput, where: str) -> Delivery | None:
        if one.url.strip():
            url = self._url(one.url, f"{where}.url")
        else:
            url = None
            self.faults.add(f"{where}.url", "the url is empty; say where the output is to be delivered")
        place = place_of(url, self.site) if url else None
        if place and any(shared.read_only for shared in self.site.shared if shared.name == place.storage):
            self.faults.add(
                f"{where}.url",
                f"'{one.url}' lies in the shared storage '{place.storage}', which is read only; choose another place",
            )
        # A trailing slash names a directory (POSIX 4.13).
        kind = "DIRECTORY" if one.type is None and one.path.endswith("/") else _kind(one.type)
        if has_wildcards(one.path):
            return self._wildcard_output(one, kind, url, where)
        if kind == "FILE" and one.url.endswith("/"):
            self.faults.add(f"{where}.url", f"'{one.url}' ends with '/', as a directory does; name the file in it")
        make = kind != "DIRECTORY" or not _GLOB_OF_CROMWELL.match(one.path)
        path = self._claim(one.path, kind, f"{where}.path", make=make)
        return Delivery(path, url, kind, name=one.name) if path and url else None

    def _wildcard_output(self, one: TesOutput, kind: FileType | None, url: str | None, where: str) -> Delivery | None:
        path = self._path(one.path, f"{where}.path")
        if path is None:
            return None
        if any(literal(part) in (".", "..") for part in components(path)):
            self.faults.add(f"{where}.path", f"'{path}' has an escaped '.' or '..' component; write it without")
            return None
        fixed = fixed_directory(path)
        self._claim(fixed, "DIRECTORY", f"{where}.path", make=True)
        if not one.path_prefix:
            self.faults.add(
                f"{where}.path_prefix",
                f"'{path}' has wildcards but no path_prefix; give what to cut from them, such as '{fixed}'",
            )
            return None
        prefix = self._path(one.path_prefix, f"{where}.path_prefix")
        if prefix is None:
            return None
        if not within(fixed, prefix):
            self.faults.add(
                f"{where}.path_prefix",
                f"'{prefix}' does not hold every match of '{path}'; use '{fixed}' or a directory above it",
            )
        return Delivery(path, url, kind, path_prefix=prefix, name=one.name) if url else None

    def _executors(self, executors: Sequence[TesExecutor], files: set[str]) -> tuple[ExecutorPlan, ...]:
        if not executors:
            self.faults.add("$.executors", "the task has no executors, so there is nothing to run; give at least one")
        return tuple(self._executor(one, f"$.executors[{n}]", files) for n, one in enumerate(executors))

    def _executor(self, one: TesExecutor, where: str, files: set[str]) -> ExecutorPlan:
        check_executor(one, where, self.faults)
        workdir = self._path(one.workdir, f"{where}.workdir") if one.workdir else None
        if workdir is not None:
            self.workdirs.append((workdir, f"{where}.workdir"))
        return ExecutorPlan(
            image=image_name(one.image),
            command=tuple(one.command),
            workdir=workdir,
            stdin=self._redirect(one.stdin, f"{where}.stdin", files),
            stdout=self._redirect(one.stdout, f"{where}.stdout", frozenset()),
            stderr=self._redirect(one.stderr, f"{where}.stderr", frozenset()),
            env=dict(one.env or {}),
            ignore_error=bool(one.ignore_error),
        )

    def _redirect(self, path: str | None, where: str, known: set[str] | frozenset[str]) -> str | None:
        """A redirect's path; claims its directory, except for the null device and the `known` files."""
        if not path:
            return None
        normal = self._path(path, where)
        if normal is not None and normal != _NO_REDIRECT and normal not in known:
            self.claims.append(Claim(normal, "FILE", where, make=True))
        return normal


def _kind(type_: TesFileType | None) -> FileType | None:
    match type_:
        case None:
            return None
        case TesFileType.FILE:
            return "FILE"
        case TesFileType.DIRECTORY:
            return "DIRECTORY"
