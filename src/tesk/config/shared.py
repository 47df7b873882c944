"""Storage that a site shares with its clients, also by the names that TESK gave it once."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping

from pydantic import Field

from tesk.config.fields import Root, Section

__all__ = ["OLD_VARIABLES", "SharedConfig", "TransferConfig", "shared_faults"]

OLD_VARIABLES = {
    "TRANSFER_PVC_NAME": "pvc_name",
    "HOST_BASE_PATH": "wes_base_path",
    "CONTAINER_BASE_PATH": "tes_base_path",
    "TES_BASE_PATH": "tes_base_path",
}
"""TESK's environment variables, and which key of `transfer` each stands for; of two for one key the later wins."""


class SharedConfig(Section):
    """A volume or directory that clients and tasks both reach; URLs name it by `client_path`."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$")
    pvc: str = ""
    directory: Root | None = None
    client_path: Root
    task_path: Root | None = None
    read_only: bool = False


class TransferConfig(Section):
    """Shared storage by the names of TESK's first versions; storage.shared says the same, and can name several."""

    active: bool | None = Field(
        None, description="Whether this section counts; null: if pvc_name is set, as TESK had it with its variables."
    )
    pvc_name: str = Field("", description="The PersistentVolumeClaim ($TRANSFER_PVC_NAME).")
    wes_base_path: Root | None = Field(
        None, description="How clients' URLs name its root ($HOST_BASE_PATH); null: tes_base_path."
    )
    tes_base_path: Root | None = Field(
        None,
        description="Where tasks see its root ($TES_BASE_PATH, $CONTAINER_BASE_PATH); null: wes_base_path, or /data.",
    )

    @property
    def storage(self) -> SharedConfig | None:
        """What the section means, or None when it does not count."""
        if self.active is False or (self.active is None and not self.pvc_name):
            return None
        client = self.wes_base_path or self.tes_base_path or "/data"
        return SharedConfig(
            name="transfer", pvc=self.pvc_name, client_path=client, task_path=self.tes_base_path or client
        )


def shared_faults(shared: Mapping[str, SharedConfig], *, on_kubernetes: bool) -> Iterator[tuple[str, str]]:
    """What lacks or contradicts in the shared storages: the words that name one, and a sentence about it."""
    wanted = "pvc, the PersistentVolumeClaim" if on_kubernetes else "directory, where it lies on this machine"
    names: dict[str, str] = {}
    paths: dict[str, str] = {}
    for what, one in shared.items():
        if not (one.pvc if on_kubernetes else one.directory):
            yield what, f"has no {wanted}"
        if one.client_path == "/":
            yield what, "has the client_path '/', which would make every file of tasks a shared one"
        if one.name in names:
            yield what, f"has the name '{one.name}', and so has {names[one.name]}"
        for path, other in paths.items():
            if posixpath.commonpath([path, one.client_path]) in (path, one.client_path):
                yield what, f"has the client_path {one.client_path}, and {other} has {path}; none may lie in another"
        names[one.name] = paths[one.client_path] = what
