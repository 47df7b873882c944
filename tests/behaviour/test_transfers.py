"""Files that come from servers and go to servers: what a task's state and sentences are when those have a bad day."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.sites import Place, Site, sentences
from tests.servers import Answer, FtpServer, WebServer, serving_ftp


@pytest.fixture
def web_server(place: Place) -> Iterator[WebServer]:
    """A web server that attempts reach."""
    server = WebServer(place.host)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def ftp_server(place: Place, tmp_path: Path) -> Iterator[FtpServer]:
    """An FTP server that attempts reach."""
    with serving_ftp(tmp_path / "ftp", host=place.host) as server:
        yield server


def test_servers_that_recover_are_no_failure(site: Site, web_server: WebServer, ftp_server: FtpServer) -> None:
    web_server.files["/a"] = b"a" * 2_000_000
    web_server.answers["/a"] = [Answer(cut=1_200_000), Answer(503)]
    (ftp_server.directory / "tree/sub").mkdir(parents=True)
    (ftp_server.directory / "tree/sub/b").write_text("b")
    ftp_server.go_wrong({"command": "RETR", "reply": "450 Busy"}, {"command": "STOR", "reply": "450 Busy"})
    task = site.run(
        site.shell(
            "wc -c </in/a >/out/size; cat /in/tree/sub/b >/out/b",
            inputs=[
                {"url": f"{web_server.url}/a", "path": "/in/a"},
                {"url": f"{ftp_server.url}/tree", "path": "/in/tree", "type": "DIRECTORY"},
            ],
            outputs=[{"url": f"{ftp_server.url}/results", "path": "/out", "type": "DIRECTORY"}],
        )
    )
    assert task["state"] == "COMPLETE", sentences(task)
    assert (ftp_server.directory / "results/size").read_text().strip() == "2000000"
    assert (ftp_server.directory / "results/b").read_text() == "b"
    assert sorted(one["url"] for one in task["logs"][0]["outputs"]) == [
        f"{ftp_server.url}/results/b",
        f"{ftp_server.url}/results/size",
    ]


@pytest.mark.parametrize("protocol", ["http", "ftp"])
def test_an_input_that_is_not_there_is_asked_for_once_and_named(
    site: Site, web_server: WebServer, ftp_server: FtpServer, protocol: str
) -> None:
    url = f"{web_server.url if protocol == 'http' else ftp_server.url}/none"
    task = site.run(site.task("true", inputs=[{"name": "reads", "url": url, "path": "/data/reads"}]))
    assert task["state"] == "SYSTEM_ERROR"
    assert f"input 'reads' (/data/reads): {url} does not exist" in sentences(task)
    assert len(web_server.seen) + len(ftp_server.commands("RETR")) == 1


@pytest.mark.parametrize("protocol", ["http", "ftp"])
def test_an_output_that_is_refused_at_the_end_is_named(
    site: Site, web_server: WebServer, ftp_server: FtpServer, protocol: str
) -> None:
    url = f"{web_server.url if protocol == 'http' else ftp_server.url}/out"
    web_server.answers["/out"] = [Answer(413)]
    ftp_server.go_wrong({"command": "RNTO", "reply": "552 Quota exceeded", "times": 9})
    task = site.run(site.shell("echo x >/data/out", outputs=[{"name": "bam", "url": url, "path": "/data/out"}]))
    assert task["state"] == "SYSTEM_ERROR"
    assert task["logs"][0]["logs"][0]["exit_code"] == 0
    (sentence,) = [one for one in task["logs"][0]["system_logs"] if "bam" in one]
    assert url in sentence
    assert "the server answered " + ("413" if protocol == "http" else "552 Quota exceeded") in sentence
    assert list(ftp_server.directory.iterdir()) == []
