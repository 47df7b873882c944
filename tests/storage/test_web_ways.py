"""Ways to a web server: TLS, proxies, kept connections."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from tests.servers import Conversation, WebServer, answering
from tests.storage.conftest import delivered, fetched

from tesk.storage import Storage, StorageError, StorageOptions


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that only its own file vouches for, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here, which makes a certificate; install it")
    made = tmp_path_factory.mktemp("certificate") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    about = ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *about, "-keyout", made, "-out", f"{made}.crt"], check=True, capture_output=True)
    made.write_text(made.read_text() + Path(f"{made}.crt").read_text())
    return made


async def test_https_with_a_certificate_that_is_trusted(
    storage: Storage, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with Tls(certificate) as port:
        assert await fetched(storage, f"https://127.0.0.1:{port}/x", tmp_path / "t") == b"GET /x"
        await delivered(storage, b"x" * 3_000_000, f"https://127.0.0.1:{port}/y", tmp_path / "s")


async def test_https_with_a_certificate_that_nobody_vouches_for_is_said_once(
    storage: Storage, certificate: Path, tmp_path: Path
) -> None:
    async with Tls(certificate) as port:
        with pytest.raises(StorageError, match=r"/x: its certificate is not trusted \(self.signed certificate"):
            await fetched(storage, f"https://127.0.0.1:{port}/x", tmp_path / "t")


async def test_an_http_proxy_is_asked_and_told_who_asks(
    storage: Storage, web_server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", web_server.url.replace("//", "//me:pw@"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    web_server.files = {"http://far.invalid/x?y": b"far", "/near": b"near"}
    assert await fetched(storage, "http://far.invalid/x?y", tmp_path / "t") == b"far"
    assert web_server.seen[0][2]["host"] == "far.invalid"
    assert web_server.seen[0][2]["proxy-authorization"] == "Basic bWU6cHc="
    assert await fetched(storage, f"{web_server.url}/near", tmp_path / "t") == b"near"


async def test_https_goes_through_a_proxy_unread(
    storage: Storage, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with Tls(certificate) as port, answering(tunnel(asked)) as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        assert await fetched(storage, f"https://127.0.0.1:{port}/x", tmp_path / "t") == b"GET /x"
    assert asked == [f"CONNECT 127.0.0.1:{port}"]


async def test_a_kept_connection_that_the_server_has_closed_costs_no_try(tmp_path: Path) -> None:
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")
        await writer.drain()

    async with answering(answer) as url, Storage(StorageOptions(retries=0)) as storage:
        for _ in range(3):
            assert await fetched(storage, f"{url}/x", tmp_path / "t") == b"x"
            await asyncio.sleep(0.05)
    assert connections == 3


async def test_one_connection_serves_many_requests(storage: Storage, web_server: WebServer, tmp_path: Path) -> None:
    web_server.files["/x"] = b"x"
    for _ in range(5):
        await fetched(storage, f"{web_server.url}/x", tmp_path / "t")
        assert len(web_server.connections) == 1


class Tls:
    """A server that answers each request over TLS with its first two words."""

    def __init__(self, certificate: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self._context)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r")[0] or 0)
            await reader.readexactly(length)
            said = " ".join(head.split()[:2]).replace("get", "GET").encode()
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(said), said))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # a client that does not trust us
        finally:
            writer.close()


def tunnel(asked: list[str]) -> Conversation:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(" ".join(head.split()[:2]))
        host, _, port = head.split()[1].partition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 go ahead\r\n\r\n")
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):  # TLS ends as each side likes
            while block := await source.read(65536):
                target.write(block)
                await target.drain()
        target.close()

    return converse
