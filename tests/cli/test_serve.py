"""serve, config and check: what an operator sees."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import httpx
import pytest
import yaml
from tests.cli.command import Call, Server, run_tesk


def test_serve_refuses_an_open_address_with_a_sentence(tmp_path: Path) -> None:
    result = run_tesk("serve", "--host", "0.0.0.0", "--port", 0, "--state-directory", tmp_path / "s")
    assert result.code == 1
    assert "allow_unauthenticated" in result.err
    assert "Traceback" not in result.err


def test_serve_tells_every_fault_of_its_configuration(call: Call, tmp_path: Path) -> None:
    (tmp_path / "tesk.yaml").write_text("server:\n  port: yes\nlocal:\n  engine: podmann\n")
    result = call("serve")
    assert result.code == 2
    assert [line.split(":")[1:3] for line in result.err.splitlines()] == [
        [" tesk.yaml", "2"],
        [" tesk.yaml", "4"],
    ]
    assert "did you mean podman?" in result.err


def test_serve_options_override_the_file(call: Call, tmp_path: Path) -> None:
    (tmp_path / "tesk.yaml").write_text("local:\n  engine: podman\n")
    result = call("serve", "--engine", "none")
    assert result.code == 2
    assert "command line: local.engine" in result.err


def test_config_show_is_a_configuration_with_the_sources_of_its_values(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESK_SERVER_PORT", "8123")
    result = call("config", "show")
    assert result.code == 0
    assert yaml.safe_load(result.out)["server"]["port"] == 8123
    assert "port: 8123  # $TESK_SERVER_PORT" in result.out
    assert json.loads(call("config", "show", "--json").out)["server"]["port"] == 8123


def test_config_check_says_which_file_is_fine(call: Call, tmp_path: Path) -> None:
    assert call("config", "check").out == "ok: no configuration file: the defaults and the environment hold\n"
    (tmp_path / "mine.yaml").write_text("server:\n  port: 1\n")
    assert call("config", "check", "-c", "mine.yaml").out == "ok: mine.yaml\n"
    (tmp_path / "mine.yaml").write_text("server:\n  prot: 1\n")
    assert call("config", "check", "-c", "mine.yaml").code == 2


def findings(out: str) -> dict[str, tuple[str, str]]:
    return {one["what"]: (one["status"], one["message"]) for one in map(json.loads, out.splitlines())}


@pytest.mark.usefixtures("sandbox")
def test_check_says_what_works_and_touches_nothing(call: Call, tmp_path: Path) -> None:
    state = tmp_path / "state"
    settings = {
        "state_directory": str(state),
        "server": {"port": 0},
        "storage": {"file_roots": [str(tmp_path)]},
        "local": {"engine": "sandbox", "cpu_cores": 1.5},
    }
    (tmp_path / "tesk.yaml").write_text(yaml.safe_dump(settings))
    result = call("check", "--json")
    found = findings(result.out)
    assert result.code == 0
    assert {status for what, (status, _) in found.items() if not what.startswith("engine ")} == {"ok"}
    assert found["engine sandbox"][1] == "works; runs tasks here"
    assert found["state directory"][1] == f"{state} (will be made)"
    assert found["capacity"][1].startswith("1.5 cores, ")
    assert found["storage"][1] == f"{tmp_path} (read and write)"
    assert not state.exists()
    assert "ok   engine sandbox: works; runs tasks here" in call("check").out


def test_check_fails_with_what_to_do(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = {
            "state_directory": str(tmp_path / "file" / "state"),
            "server": {"port": taken.getsockname()[1]},
            "store": {"url": f"sqlite:///{tmp_path}/file/tesk.db"},
            "storage": {"file_roots": [str(tmp_path / "none")]},
            "local": {"engine": "podman"},
        }
        (tmp_path / "tesk.yaml").write_text(yaml.safe_dump(settings))
        result = call("check", "--json")
    found = findings(result.out)
    assert result.code == 1
    failed = {what for what, (status, _) in found.items() if status == "fail"}
    assert failed >= {"state directory", "store", "storage", "address"}
    assert "set state_directory to another" in found["state directory"][1]
    assert "server.port" in found["address"][1]


def test_check_tries_every_engine_and_fails_where_the_chosen_one_does_not_work(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody-listens")
    settings = {"state_directory": str(tmp_path / "state"), "server": {"port": 0}, "local": {"engine": "docker"}}
    (tmp_path / "tesk.yaml").write_text(yaml.safe_dump(settings))
    result = call("check", "--json")
    found = findings(result.out)
    assert result.code == 1
    assert {"engine podman", "engine docker", "engine apptainer", "engine sandbox"} <= set(found)
    assert found["engine docker"][0] == "no"
    assert not [one for one in found.values() if "runs tasks here" in one[1]]
    said = "local.engine asks for docker, which does not work; do what one of the lines above says"
    assert found["engines"] == ("fail", said)


@pytest.mark.usefixtures("sandbox")
def test_check_tells_that_tasks_have_no_network(call: Call, tmp_path: Path) -> None:
    local = {"engine": "sandbox", "network": False}
    settings = {"state_directory": str(tmp_path / "state"), "server": {"port": 0}, "local": local}
    (tmp_path / "tesk.yaml").write_text(yaml.safe_dump(settings))
    found = findings(call("check", "--json").out)
    assert found["engine sandbox"][1] == "works; runs tasks here, without a network (local.network)"


@pytest.mark.usefixtures("sandbox")
def test_check_says_what_is_shared_and_by_which_name(call: Call, tmp_path: Path) -> None:
    settings = {
        "state_directory": str(tmp_path / "state"),
        "server": {"port": 0},
        "storage": {
            "shared": [
                {"name": "work", "directory": str(tmp_path), "client_path": "/data", "task_path": "/tasks"},
                {"name": "gone", "directory": str(tmp_path / "gone"), "client_path": "/gone"},
            ]
        },
        "transfer": {"active": False, "pvc_name": "old"},
    }
    (tmp_path / "tesk.yaml").write_text(yaml.safe_dump(settings))
    result = call("check", "--json")
    found = findings(result.out)
    assert result.code == 1
    where = f"directory {tmp_path}, which URLs name /data, is mounted instead of copied (tasks see it at /tasks)"
    assert found["shared storage work"] == ("ok", f"{where}; from storage.shared[0]")
    assert found["shared storage gone"][0] == "fail"
    assert "make or mount it, or change storage.shared[1]" in found["shared storage gone"][1]
    assert found["shared storage"] == ("no", "transfer.active is false, so that old is not used")
    served = call("serve")
    assert served.code != 0
    assert f"The shared storage 'gone' is not there: {tmp_path}/gone is not a directory." in served.err


def test_check_of_a_cluster_that_is_nowhere_says_how_to_name_it(call: Call, tmp_path: Path) -> None:
    settings = {
        "backend": "kubernetes",
        "state_directory": str(tmp_path / "state"),
        "server": {"port": 0},
        "kubernetes": {"image": "x:1", "kubeconfig": str(tmp_path / "none")},
    }
    (tmp_path / "tesk.yaml").write_text(yaml.safe_dump(settings))
    result = call("check", "--json")
    found = findings(result.out)
    assert result.code == 1
    assert found["cluster"][0] == "fail"
    assert f"there is no kubeconfig at {tmp_path}/none" in found["cluster"][1]
    assert "engine sandbox" not in found


def test_check_of_a_broken_configuration_ends_there(call: Call, tmp_path: Path) -> None:
    (tmp_path / "tesk.yaml").write_text("server: {port: much}\n")
    result = call("check", "--json")
    assert result.code == 1
    assert findings(result.out)["configuration"][0] == "fail"
    assert "engine sandbox" not in findings(result.out)


def test_check_leaves_a_running_server_alone(server: Server, call: Call, tmp_path: Path) -> None:
    state = server.files.parent / "state"
    before = sorted(os.listdir(state))
    port = server.url.rpartition(":")[2]
    (tmp_path / "tesk.yaml").write_text(
        yaml.safe_dump({"state_directory": str(state), "server": {"port": int(port)}, "local": {"engine": "sandbox"}})
    )
    result = call("check", "--json")
    assert result.code == 1
    assert findings(result.out)["address"][0] == "fail"
    assert findings(result.out)["store"][0] == "ok"
    assert sorted(os.listdir(state)) == before
    assert call("list", "--server", server.url).code == 0


def test_a_server_of_this_machine_alone_answers_to_its_own_names(server: Server) -> None:
    port = httpx.URL(server.url).port
    for host, status in ((f"localhost:{port}", 200), ("127.0.0.1", 200), (f"evil.example:{port}", 421)):
        answer = httpx.get(f"{server.url}/v1/service-info", headers={"Host": host})
        assert answer.status_code == status, host
