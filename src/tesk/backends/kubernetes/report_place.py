"""Where the pods of attempts send their reports: an address of this process, and a Secret with the key to sign with."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import logging
import socket

from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Secret

from tesk.backends.kubernetes.api import Call, path_of
from tesk.backends.kubernetes.cluster import Cluster
from tesk.backends.kubernetes.errors import ClusterError, Refused
from tesk.backends.kubernetes.labels import selector_of
from tesk.backends.kubernetes.mounted import REPORT_KEY_FILE
from tesk.backends.kubernetes.options import KubernetesOptions, ReportPlace
from tesk.backends.kubernetes.pace import Deadline
from tesk.backends.kubernetes.pushing import ReportListener

__all__ = ["open_reports"]

log = logging.getLogger(__name__)

_SECONDS = 5.0
_ELSEWHERE = "192.0.2.1"
"""An address that nobody has (RFC 5737): nothing is sent there."""


async def open_reports(
    cluster: Cluster, options: KubernetesOptions, secret: bytes, listener: ReportListener
) -> ReportPlace | None:
    """Have `listener` listen where pods reach it, and give them the key `secret`.

    None, and the reason in the server's log, where that cannot be: then reports are read in the logs of pods.
    """
    if options.report_port is None:
        return None
    try:
        name = await _make_secret(cluster, options, secret)
        host = await asyncio.to_thread(_address, options.report_host, cluster.host)
        everywhere = "::" if ":" in host else "0.0.0.0"
        listens = everywhere if options.report_host else host  # a name may be that of something before us
        return ReportPlace(host, await listener.open(listens, options.report_port), name)
    except (ClusterError, OSError) as error:
        log.warning("pods cannot send their reports, which are read in their logs instead: %s", error)
        return None


async def _make_secret(cluster: Cluster, options: KubernetesOptions, secret: bytes) -> str:
    """The Secret's name; it is made unless it is there: the name says what it holds."""
    name = f"tesk-reports-{hashlib.sha256(options.instance.encode() + secret).hexdigest()[:10]}"
    made = Secret(
        metadata=ObjectMeta(
            name=name,
            labels={**options.labels, **selector_of(options.instance)},
            annotations=dict(options.annotations) or None,
        ),
        immutable=True,
        data={REPORT_KEY_FILE: base64.b64encode(secret).decode()},
    )
    call = Call(
        "make the Secret that pods sign their reports with", "POST", path_of(Secret, cluster.namespace), body=made
    )
    try:
        await cluster.api.send(call, Deadline(_SECONDS))
    except Refused as error:
        if error.reason != "AlreadyExists":
            raise
    return name


def _address(host: str, api_server: str) -> str:
    """The address of `host`, since pods should not have to look for it; or our own on the way to `api_server`.

    Raises OSError where there is none that other machines know.
    """
    if host:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    for place in (api_server, _ELSEWHERE):
        for family, *_, address in socket.getaddrinfo(place, 1, type=socket.SOCK_DGRAM):
            with socket.socket(family, socket.SOCK_DGRAM) as one:
                one.connect(address)
                found = str(one.getsockname()[0])
            if not ipaddress.ip_address(found).is_loopback:
                return found
    raise OSError("this machine has no address but its own; set kubernetes.report_host")
