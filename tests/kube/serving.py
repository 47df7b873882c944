"""A running server of a test's own in a namespace, with only the rights of its Role."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.behaviour.sites import Ground, Place, Site
from tests.kube.image import BUSYBOX
from tests.kube.space import Space

__all__ = ["serving"]


@contextlib.contextmanager
def serving(
    space: Space,
    directory: Path,
    *,
    image: str,
    account: str = "tesk",
    files: Path | None = None,
    tasks: Mapping[str, Any] | None = None,
    shared: Sequence[Mapping[str, Any]] = (),
    **kubernetes: Any,
) -> Iterator[Site]:
    """A server over `space` whose section `kubernetes` holds `kubernetes` on top of what the cluster of tests needs.

    `tasks` is the section of this name, `shared` what is in `storage.shared`. `directory` comes to hold all it has;
    `account` is the service account with whose rights it runs. Tasks may name what lies in `files`, a directory of this
    machine. Two servers in one namespace need two names: `instance`.
    """
    directory.mkdir()
    settings = {
        "image": image,
        "layout": "jobs",
        "namespace": space.name,
        "kubeconfig": str(space.kubeconfig(account, directory)),
        "executor_service_account": "tesk-executor",
        "run_as_user": 0,  # the volumes of this cluster can be written by root only
        "keep_finished": 0,
        **kubernetes,
    }
    if files is not None:
        settings["file_volumes"] = [{"pvc": space.show(files, f"files-{directory.name}"), "path": str(files)}]
    sections = {
        "backend": "kubernetes",
        "kubernetes": settings,
        "tasks": dict(tasks or {}),
        "storage": {"shared": [dict(one) for one in shared]},
    }
    (directory / "tesk.yaml").write_text(yaml.safe_dump(sections))
    roots = [] if files is None else [str(files)]
    ground = Ground({"TESK_STORAGE_FILE_ROOTS": json.dumps(roots)}, lambda: space.left(seconds=30))
    place = Place({}, BUSYBOX, prepare=lambda _: contextlib.nullcontext(ground), admits=False, patience=3.0)
    site = Site(place, directory)
    with site.running():
        yield site
