"""Whether executors reach a network is the site's to say."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.behaviour.sites import Place, Site
from tests.behaviour.test_executors import need_busybox

NewSite = Callable[..., Site]

TEXT = b"from the machine\n"


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """The port of a server on every address of this machine, which says TEXT to each who comes."""
    with socket.create_server(("0.0.0.0", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with server.accept()[0] as one:
                        one.sendall(TEXT)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def own_address() -> str:
    """An address of this machine that is not its loopback's; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))
        except OSError as error:
            pytest.skip(f"this machine has no network: {error}")
        return str(one.getsockname()[0])


@pytest.mark.parametrize("online", ["true", "false"])
def test_executors_reach_a_network_where_the_site_lets_them(own_site: NewSite, place: Place, online: str) -> None:
    if place.online is None:
        pytest.skip("on a cluster NetworkPolicies say who reaches what")
    if online not in place.online:
        pytest.skip("podman gives this user's containers no network: the user may not open /dev/net/tun")
    site = own_site(**place.online[online])
    need_busybox(site)
    with listening() as port:
        task = site.run(site.shell(f"busybox nc -w 5 {own_address()} {port} </dev/null || echo none"))
    assert task["state"] == "COMPLETE", task
    assert task["logs"][0]["logs"][0]["stdout"] == (TEXT.decode() if online == "true" else "none\n")


def test_without_a_network_an_executor_still_speaks_with_itself(own_site: NewSite, place: Place) -> None:
    if place.online is None:
        pytest.skip("on a cluster NetworkPolicies say who reaches what")
    site = own_site(**place.online["false"])
    task = site.run(site.shell("cat /proc/net/dev /proc/net/fib_trie"))
    said = task["logs"][0]["logs"][0]["stdout"]
    assert "eth0" not in said
    assert "127.0.0.1" in said, "the loopback interface is up"
