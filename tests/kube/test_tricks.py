"""Executors that try what they can: to speak for another, to have what is not theirs delivered, to have no end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.sites import Site, sentences
from tests.kube.cluster import HOST, Cluster
from tests.kube.diary import Diary
from tests.kube.faults.gates import GateKeeper, gate_keeper
from tests.kube.serving import serving
from tests.kube.space import Space, new_space

pytestmark = [pytest.mark.kube, pytest.mark.timeout(400)]

Json = dict[str, Any]

LAYOUTS = ("jobs", "pod")
PYTHON = "/opt/tesk/bin/python"
MUCH = {"jobs": 10**8, "pod": 10**9}
"""Bytes of stdout: the launcher is the same, and a gigabyte costs the node a minute in which other logs wait."""
REFUSED = {"EPERM", "EACCES", "EROFS", "EBUSY", "EXDEV", "ENOENT"}
STEALS = {
    "shadow": "/etc/shadow",
    "environment": "/proc/self/environ",
    "plan": "/tesk/attempt/site.json",
    "volume": "/scratch",
    "control": "/tesk/control/ex-01/go",
    "up": "../../../../../etc/passwd",
}
MISCHIEF = """
rm -rf /.tesk/* /.tesk; echo forged >/.tesk/launcher
mkdir -p /data/out/--help; cd /data/out; echo dash >./-rf; echo help >./--help/-x; echo star >'./*'; mkfifo pipe
(setsid sh -c 'while :; do echo late; sleep 0.01; done' &)
(setsid sh -c 'sleep 0.1; while :; do echo late >>/data/out/-rf; done' &)
exec >&- 2>&-
exit 0
"""


@dataclass
class Stage:
    """The tasks of this module by layout and case, all begun at once; `files` is what tasks may name."""

    sites: dict[str, Site]
    diaries: dict[str, Diary]
    files: Path
    gates: GateKeeper
    ids: dict[tuple[str, str], str]

    def end(self, layout: str, case: str) -> Json:
        """The task of `case` once it has ended."""
        return self.diaries[layout].wait(self.ids[layout, case])


@pytest.fixture(scope="module")
def stage(cluster: Cluster, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    cluster.need_here()
    directory = tmp_path_factory.mktemp("tricks")
    files = directory / "files"
    files.mkdir()
    (files / "of-another-task").write_text("secret\n")
    with ExitStack() as stack:
        gates = stack.enter_context(gate_keeper(HOST))
        space = stack.enter_context(new_space(cluster, "tricks", wait=False))
        host = named_host(space, int(gates.url.rpartition(":")[2]))
        sites = {
            layout: stack.enter_context(
                serving(
                    space,
                    directory / layout,
                    image=image,
                    instance=layout,
                    layout=layout,
                    files=files,
                    executor_security_context={"runAsUser": 0},
                )
            )
            for layout in LAYOUTS
        }
        diaries = {layout: stack.enter_context(Diary(site)) for layout, site in sites.items()}
        tasks = {
            (layout, case): task
            for layout, site in sites.items()
            for case, task in cases(site, files, gates, host, image).items()
        }
        ids = {(layout, case): sites[layout].create(task) for (layout, case), task in tasks.items()}
        yield Stage(sites, diaries, files, gates, ids)
        for layout, site in sites.items():
            for (where, _), one in ids.items():
                if where == layout:
                    diaries[layout].wait(one)
            assert site.left() == []


def named_host(space: Space, port: int) -> str:
    """This machine by a name that only pods can resolve."""
    service = {"metadata": {"name": "gates"}, "apiVersion": "v1"}
    ports = [{"port": port}]
    space.make({**service, "kind": "Service", "spec": {"ports": ports}})
    space.make({**service, "kind": "Endpoints", "subsets": [{"addresses": [{"ip": HOST}], "ports": ports}]})
    return f"gates.{space.name}.svc"


def cases(site: Site, files: Path, gates: GateKeeper, host: str, image: str) -> dict[str, Json]:
    """The tasks, those that take longest first."""
    layout = site.directory.name
    attack = (Path(__file__).parent / "attack.py").read_text()
    port = gates.url.rpartition(":")[2]
    steals = {**STEALS, "another": str(files / "of-another-task")}
    links = "; ".join(f"ln -s '{target}' /data/{name}" for name, target in steals.items())
    scripts = ["echo first; exit 4", "", "grep -c 127.0.0.1 /etc/resolv.conf; echo last >/data/out; echo third"]
    attacked = [site.shell(one, ignore_error=True)["executors"][0] for one in scripts]
    attacked[1] = {**attacked[1], "image": image, "command": [PYTHON, "-c", attack, host]}
    return {
        "attacks": {
            "executors": attacked,
            "outputs": [{"path": "/data/out", "url": f"http://{host}:{port}/{layout}/stage-out"}],
        },
        "steals": {
            **site.shell(links),
            "outputs": [{"path": f"/data/{name}", "url": f"file://{files}/stolen-{layout}-{name}"} for name in steals],
        },
        "mischief": {
            **site.shell(MISCHIEF),
            "outputs": [
                {"path": "/data/out", "url": f"file://{files}/{layout}-out", "type": "DIRECTORY"},
                {"path": "/data/out/-rf", "url": f"file://{files}/{layout}-rf"},
            ],
        },
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_executor_cannot_speak_for_another(stage: Stage, layout: str) -> None:
    """As root, with a program that tries what it can; what is told of each is what happened."""
    task = stage.end(layout, "attacks")
    logs = task["logs"][0]["logs"]
    assert (task["state"], len(task["logs"])) == ("COMPLETE", 1), sentences(task)
    assert [one["exit_code"] for one in logs] == [4, 7, 0]
    assert logs[0]["stdout"] == "first\n"
    assert logs[2]["stdout"] == "0\nthird\n"
    assert all(one["end_time"] <= two["start_time"] for one, two in itertools.pairwise(logs))
    tried = dict(line.split(": ", 1) for line in logs[1]["stdout"].splitlines() if ": " in line and line[0] != "{")
    assert {name: outcome for name, outcome in tried.items() if outcome not in REFUSED and name[0] != "R"} == {}
    assert len([outcome for outcome in tried.values() if outcome in REFUSED]) == 15
    assert stage.gates.tasks[layout].delivered == [b"last\n"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_not_the_tasks_is_not_delivered(stage: Stage, layout: str) -> None:
    task = stage.end(layout, "steals")
    assert task["state"] == "SYSTEM_ERROR"
    said = sentences(task)
    for name in (*STEALS, "another"):
        assert f"output /data/{name}: it is a symlink to something that is not in the task's files" in said
    assert list(stage.files.glob("stolen-*")) == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_odd_names_are_delivered_and_nothing_outlives_the_command(stage: Stage, layout: str) -> None:
    """It deletes what it finds of ours, closes its streams and leaves daemons that write into its outputs."""
    task = stage.end(layout, "mischief")
    assert task["state"] == "COMPLETE", sentences(task)
    out = stage.files / f"{layout}-out"
    found = {str(one.relative_to(out)): one.read_text() for one in out.rglob("*") if one.is_file()}
    assert found["--help/-x"] == "help\n"
    assert found["*"] == "star\n"
    assert found["-rf"] == (stage.files / f"{layout}-rf").read_text(), "both are of one moment: nobody writes any more"
    assert found["-rf"].startswith("dash\n")
    assert set(found) == {"--help/-x", "*", "-rf"}


@pytest.mark.crowd
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_gigabyte_of_stdout_takes_little_memory_and_has_an_end(
    cluster: Cluster, image: str, tmp_path: Path, layout: str, record_property: Any
) -> None:
    """The executor, its launcher included, has 30 MB."""
    much = MUCH[layout]
    with (
        new_space(cluster, "much", wait=False) as space,
        serving(space, tmp_path / "server", image=image, layout=layout) as site,
        Diary(site) as diary,
    ):
        task = diary.wait(site.create(site.shell(f"exec head -c {much} /dev/zero", resources={"ram_gb": 0.03})))
        assert site.process is not None
        status = Path(f"/proc/{site.process.pid}/status").read_text()
    assert task["state"] == "COMPLETE", sentences(task)
    log = task["logs"][0]["logs"][0]
    assert f"{much - 65536} bytes left out" in log["stdout"]
    assert len(log["stdout"]) < 70000
    assert int(status.partition("VmHWM:")[2].split()[0]) // 1024 < 200, "MiB, the most that the server ever had"
    record_property("figure", f"{much} bytes of stdout ({layout}): {log['start_time']} to {log['end_time']}")
