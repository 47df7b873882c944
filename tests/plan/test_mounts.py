"""What becomes a mount, and what must be there before stage-in: tables over whole tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tesk.plan.make import CannotPlan, make_plan
from tesk.plan.model import Mount, Plan
from tesk.plan.mounts import FILLED, KERNEL
from tesk.plan.paths import upwards
from tesk.plan.site import Site
from tesk.tes.models import TesTask

CLIENTS = Path(__file__).parents[1] / "data" / "clients"
SITE = Site(file_roots=("/data", "/shared", "/jobstore", "/home/me"))
WF = "/data/ScatterGather/5f0c5a1e-9a53-4c62-8f57-0f4f8a2c7b11"
HELLO = "/data/SimpleTest/d465f105-6b81-4174-af62-a0802152b9af/call-HelloWorld/execution"


def plan(site: Site = SITE, executor: dict[str, Any] | None = None, **task: Any) -> Plan:
    """The plan of a task with one executor."""
    sent = {"executors": [{"image": "busybox", "command": ["true"], **(executor or {})}], **task}
    return make_plan(TesTask.model_validate_json(json.dumps(sent)), site)


def client(name: str) -> Plan:
    return make_plan(TesTask.model_validate_json((CLIENTS / name).read_bytes()), SITE)


def file_in(path: str) -> dict[str, str]:
    return {"path": path, "content": "x"}


def folder_in(path: str) -> dict[str, str]:
    return {"path": path, "url": "s3://b/in", "type": "DIRECTORY"}


def out(path: str, type_: str | None = "FILE", **more: str) -> dict[str, str]:
    kind = {"type": type_} if type_ else {}
    return {"path": path, "url": f"s3://b/out{path}", **kind, **more}


def wild(path: str, prefix: str) -> dict[str, str]:
    return out(path, None, path_prefix=prefix)


GLOB = "glob-0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"
CLIENT_TASKS: list[tuple[Plan, Sequence[str], Sequence[str]]] = [
    (client("cromwell-1-hello.json"), [HELLO], [HELLO]),
    (
        client("cromwell-2-gather-glob.json"),
        [*(f"{WF}/call-CountLines/shard-{n}/execution" for n in range(3)), f"{WF}/call-Gather/execution"],
        [
            *(f"{WF}/call-CountLines/shard-{n}/execution" for n in range(3)),
            f"{WF}/call-Gather/execution",
        ],
    ),
    (client("nf-ga4gh-task.json"), ["/work"], ["/work"]),
    (client("wdl-engine-task.json"), ["/mnt/task"], ["/mnt/task", "/mnt/task/work"]),
    (  # Snakemake: one script in /tmp, which is also the working directory
        plan(
            inputs=[file_in("/tmp/run_snakemake.sh")],
            outputs=[],
            executor={"command": ["/bin/bash", "/tmp/run_snakemake.sh"], "workdir": "/tmp"},
        ),
        ["/tmp"],
        ["/tmp"],
    ),
    (  # cwl-tes: a random directory at the top, given out whole and twice, inputs below /var/lib/cwl
        plan(
            inputs=[{"path": "/var/lib/cwl/stg1/in.txt", "url": "file:///data/in.txt"}],
            outputs=[
                {"path": "/krzjDP/out.txt", "url": "file:///data/tmpA/out.txt", "type": "FILE"},
                {"path": "/krzjDP", "url": "file:///data/tmpA/", "type": "DIRECTORY"},
                {"path": "/krzjDP", "url": "file:///data/tmpA/", "type": "DIRECTORY"},
            ],
            executor={"workdir": "/krzjDP", "stdout": "/krzjDP/out.txt", "env": {"HOME": "/krzjDP"}},
        ),
        ["/krzjDP", "/var/lib/cwl/stg1"],
        ["/krzjDP", "/var/lib/cwl/stg1"],
    ),
    (  # Toil: directories at the same path as their url
        plan(
            inputs=[
                {"path": "/jobstore/js", "url": "file:///jobstore/js", "type": "DIRECTORY"},
                {"path": "/home/me/.aws", "url": "file:///home/me/.aws", "type": "DIRECTORY"},
            ],
            executor={"env": {"TOIL_WORKDIR": "/tmp"}},
        ),
        ["/home/me/.aws", "/jobstore/js"],
        ["/home/me/.aws", "/jobstore/js"],
    ),
    (  # Nextflow: a script of bin/ at its own path, beside /work
        plan(
            inputs=[
                file_in("/work/.command.sh"),
                {"path": "/shared/bin/run.py", "url": "/shared/bin/run.py", "type": "FILE"},
            ],
            executor={"workdir": "/work"},
        ),
        ["/shared/bin", "/work"],
        ["/shared/bin", "/work"],
    ),
]


@pytest.mark.parametrize(
    ("found", "mounts", "directories"),
    CLIENT_TASKS,
    ids=["cromwell", "cromwell-glob", "nextflow", "wdl", "snakemake", "cwl-tes", "toil", "nextflow-bin"],
)
def test_task_of_a_client_gets_exactly_these_mounts_and_directories(
    found: Plan, mounts: Sequence[str], directories: Sequence[str]
) -> None:
    assert found.mounts == tuple(Mount(path) for path in mounts)
    assert found.directories == tuple(directories)


@pytest.mark.parametrize(
    ("task", "mounts", "directories"),
    [
        pytest.param({}, "", "", id="nothing needs no mount"),
        pytest.param({"volumes": ["/vol/A"]}, "/vol/A", "/vol/A", id="volume"),
        pytest.param({"volumes": ["/vol/A/", "/vol//A/."]}, "/vol/A", "/vol/A", id="one volume, spelled thrice"),
        pytest.param({"inputs": [folder_in("/in")]}, "/in", "/in", id="directory at the top"),
        pytest.param({"inputs": [file_in("/data/a/x")]}, "/data/a", "/data/a", id="the directory of a file"),
        pytest.param({"outputs": [out("/res/x")]}, "/res", "/res", id="the directory of an output file"),
        pytest.param({"outputs": [out("/res/x", None)]}, "/res", "/res", id="an output without a type"),
        pytest.param({"outputs": [out("/res", "DIRECTORY")]}, "/res", "/res", id="an output directory at the top"),
        pytest.param({"outputs": [out("/res/", None)]}, "/res", "/res", id="a trailing slash names a directory"),
        pytest.param(
            {"inputs": [file_in("/data/x"), file_in("/database/y")]}, "/data /database", "/data /database",
            id="/data does not show /database",
        ),
        pytest.param(
            {"inputs": [file_in("/data/x"), file_in("/data/deep/er/y")]}, "/data", "/data",
            id="a directory shows what lies below it",
        ),
        pytest.param(
            {"volumes": ["/tes/volumes"], "inputs": [file_in("/tes/volumes/x"), file_in("/tes/x")]},
            "/tes", "/tes /tes/volumes", id="volume below the directory of a file",
        ),
        pytest.param(
            {"volumes": ["/a/b/c", "/a/b", "/a/bc"]}, "/a/b /a/bc", "/a/b /a/b/c /a/bc", id="nested volumes",
        ),
        pytest.param(
            {"inputs": [file_in("/data/x")], "outputs": [out("/data/res/y"), out("/data/d", "DIRECTORY")]},
            "/data", "/data /data/d /data/res", id="directories of outputs are there before",
        ),
        pytest.param(
            {"inputs": [file_in("/data/x"), file_in("/data/in/y"), folder_in("/data/dir")]},
            "/data", "/data", id="directories of inputs come with them",
        ),
        pytest.param(
            {"volumes": ["/data"], "outputs": [out(f"/data/{name}", "DIRECTORY") for name in (GLOB, "glob-1")]},
            "/data", "/data /data/glob-1", id="Cromwell's script makes its globs itself",
        ),
        pytest.param(
            {"outputs": [out(f"/data/{GLOB}/", None)]}, f"/data/{GLOB}", f"/data/{GLOB}", id="a glob that is a mount",
        ),
        pytest.param({"outputs": [wild("/work/*.txt", "/work")]}, "/work", "/work", id="wildcard in the name"),
        pytest.param(
            {"outputs": [wild("/work/run?/out/*.txt", "/work")]}, "/work", "/work", id="wildcard in a directory",
        ),
        pytest.param(
            {"outputs": [wild("/work/a/b/[0-9]*", "/work")]}, "/work/a/b", "/work/a/b",
            id="the fixed part is deeper than path_prefix",
        ),
        pytest.param(
            {"outputs": [wild(r"/work/a\*b/*", "/work")]}, "/work/a*b", "/work/a*b", id="escaped wildcard",
        ),
        pytest.param({"outputs": [wild("/top*/x", "/")], "volumes": ["/v"]}, None, None, id="wildcard at the top"),
        pytest.param({"executor": {"stdout": "/logs/o", "stderr": "/errs/e"}}, "/errs /logs", "/errs /logs",
                     id="redirects"),
        pytest.param({"executor": {"stdin": "/feed/me"}}, "/feed", "/feed", id="stdin"),
        pytest.param({"executor": {"stdin": "/dev/null", "stdout": "/dev/null", "stderr": "/dev/null"}}, "", "",
                     id="the null device is no mount"),
        pytest.param({"executor": {"stdin": "", "stdout": "", "stderr": "", "workdir": ""}}, "", "",
                     id="empty redirects are none"),
        pytest.param({"executor": {"workdir": "/somewhere"}}, "", "", id="workdir is no mount"),
        pytest.param({"executor": {"workdir": "/data/w/d"}, "volumes": ["/data"]}, "/data", "/data /data/w/d",
                     id="workdir in a mount is there before"),
        pytest.param({"executor": {"workdir": "/"}, "volumes": ["/data"]}, "/data", "/data", id="workdir above"),
        pytest.param({"executor": {"workdir": "/res"}, "outputs": [out("/res", None)]}, "/res", "/res",
                     id="an output without a type that is the workdir is a directory"),
        pytest.param({"volumes": ["/data/o/p"], "outputs": [out("/data/o", None)]}, "/data/o", "/data/o /data/o/p",
                     id="an output without a type that holds a volume is a directory"),
        pytest.param({"inputs": [file_in("/data/s"), file_in("/data/s")]}, "/data", "/data", id="same file twice"),
        pytest.param({"volumes": ["/var/lib/cwl/stg1", "/tmp", "/mnt", "/data", "/usr/share/x", "/opt/tool"]},
                     "/data /mnt /opt/tool /tmp /usr/share/x /var/lib/cwl/stg1",
                     "/data /mnt /opt/tool /tmp /usr/share/x /var/lib/cwl/stg1",
                     id="ordinary directories"),
        pytest.param({"volumes": ["/data/with space", "/data/ünï"]}, None, "/data/with space|/data/ünï",
                     id="odd names"),
    ],
)  # fmt: skip
def test_mounts_are_merged_by_component(task: dict[str, Any], mounts: str | None, directories: str | None) -> None:
    if mounts is None and directories is None:
        with pytest.raises(CannotPlan, match="images fill"):
            plan(**task)
        return
    found = plan(**task)
    separator = "|" if "|" in (directories or "") else None
    assert found.directories == tuple((directories or "").split(separator))
    assert found.mounts == tuple(Mount(one) for one in (mounts or directories or "").split(separator))


@pytest.mark.parametrize("path", ["/input.txt", "/etc/tool.conf", "/usr/local/bin/run.sh", "/root/.netrc"])
def test_input_file_in_a_directory_of_the_image_is_mounted_by_itself_read_only(path: str) -> None:
    found = plan(inputs=[file_in(path), file_in("/data/x")], executor={"stdin": path})
    assert set(found.mounts) == {Mount(path, "FILE", read_only=True), Mount("/data")}
    assert found.directories == ("/data",)
    assert found.executors[0].stdin == path


def test_same_input_file_twice_in_a_directory_of_the_image_is_one_mount() -> None:
    assert plan(inputs=[file_in("/etc/x"), file_in("//etc/./x")]).mounts == (Mount("/etc/x", "FILE", True),)


REFUSED = [
    ({"volumes": ["/"]}, "$.volumes[0]", "'/' is a directory that images fill themselves"),
    ({"volumes": ["/ok", "/etc/"]}, "$.volumes[1]", "use another path, such as '/data/etc'"),
    ({"inputs": [folder_in("/usr/bin")]}, "$.inputs[0].path", "such as '/data/bin'"),
    ({"outputs": [out("/opt", "DIRECTORY")]}, "$.outputs[0].path", "such as '/data/opt'"),
    ({"outputs": [out("/result.txt")]}, "$.outputs[0].path", "lies in '/', which images fill themselves"),
    ({"outputs": [out("/etc/hosts")]}, "$.outputs[0].path", "such as '/data/hosts'"),
    ({"outputs": [out("/result", None)]}, "$.outputs[0].path", "say so with type DIRECTORY"),
    ({"outputs": [wild("/*.txt", "/")]}, "$.outputs[0].path", "'/' is a directory that images fill"),
    ({"outputs": [wild("/usr/lib/*.so", "/usr/lib")]}, "$.outputs[0].path", "'/usr/lib' is a directory"),
    ({"executor": {"stdout": "/out.log"}}, "$.executors[0].stdout", "such as '/data/out.log'"),
    ({"executor": {"stderr": "/var/e"}}, "$.executors[0].stderr", "lies in '/var'"),
    ({"executor": {"stdin": "/etc/passwd"}}, "$.executors[0].stdin", "lies in '/etc'"),
    ({"executor": {"stdout": "/in.txt"}, "inputs": [file_in("/in.txt")]}, "$.executors[0].stdout", "lies in '/'"),
    ({"inputs": [file_in("/dev/x")]}, "$.inputs[0].path", "where the kernel keeps its own files"),
    ({"inputs": [folder_in("/proc")]}, "$.inputs[0].path", "where the kernel"),
    ({"inputs": [file_in("/dev/null")]}, "$.inputs[0].path", "where the kernel"),
    ({"outputs": [out("/sys/fs/x/y")]}, "$.outputs[0].path", "where the kernel"),
    ({"outputs": [wild("/dev/shm/*", "/dev/shm")]}, "$.outputs[0].path", "where the kernel"),
    ({"volumes": ["/dev/shm"]}, "$.volumes[0]", "where the kernel"),
    ({"executor": {"stdout": "/dev/stdout"}}, "$.executors[0].stdout", "where the kernel"),
    ({"executor": {"stdin": "/dev/null/x"}}, "$.executors[0].stdin", "where the kernel"),
]


@pytest.mark.parametrize(("task", "where", "says"), REFUSED)
def test_nothing_is_mounted_over_what_the_image_or_the_kernel_fills(
    task: dict[str, Any], where: str, says: str
) -> None:
    with pytest.raises(CannotPlan) as caught:
        plan(**task)
    assert [reason.path for reason in caught.value.reasons] == [where]
    assert says in caught.value.reasons[0].sentence


def test_names_that_only_begin_like_the_kernel_s_are_ordinary() -> None:
    assert plan(volumes=["/device", "/process", "/system"]).mounts == (
        Mount("/device"), Mount("/process"), Mount("/system"),
    )  # fmt: skip


@pytest.mark.parametrize("path", sorted(FILLED))
def test_what_lies_above_a_directory_of_the_image_is_one_too(path: str) -> None:
    assert set(upwards(path)) <= FILLED
    assert path not in KERNEL


CONFLICTS = [
    ({"inputs": [file_in("/data/x"), file_in("/data/x/y")]}, "$.inputs[1].path", "lies in '/data/x'"),
    ({"inputs": [file_in("/data/x/y"), file_in("/data/x")]}, "$.inputs[0].path", "according to inputs[1].path"),
    ({"inputs": [file_in("/data/x"), folder_in("/data/x")]}, "$.inputs[1].path", "'/data/x' is a file"),
    ({"inputs": [file_in("/data/x")], "outputs": [out("/data/x/a/b")]}, "$.outputs[0].path", "lies in '/data/x'"),
    ({"inputs": [file_in("/data/x")], "outputs": [wild("/data/x/*", "/data")]}, "$.outputs[0].path", "is a file"),
    ({"inputs": [file_in("/data/x")], "volumes": ["/data/x"]}, "$.volumes[0]", "inputs[0].path"),
    ({"inputs": [file_in("/x")], "volumes": ["/x/y"]}, "$.volumes[0]", "lies in '/x'"),
    ({"outputs": [out("/data/x")], "volumes": ["/data/x/v"]}, "$.volumes[0]", "outputs[0].path"),
    ({"outputs": [out("/data/x"), out("/data/x", "DIRECTORY", name="again")]}, "$.outputs[1].path", "is a file"),
    ({"inputs": [file_in("/data/x")], "executor": {"stdout": "/data/x/log"}}, "$.executors[0].stdout", "lies in"),
    ({"inputs": [folder_in("/data/d")], "executor": {"stdin": "/data/d"}}, "$.inputs[0].path", "stdin"),
    ({"inputs": [file_in("/data/x")], "executor": {"workdir": "/data/x"}}, "$.executors[0].workdir", "is a file"),
    ({"inputs": [file_in("/tool")], "executor": {"workdir": "/tool/w"}}, "$.executors[0].workdir", "lies in"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "where", "says"), CONFLICTS)
def test_a_path_that_is_a_file_and_a_directory_is_refused(task: dict[str, Any], where: str, says: str) -> None:
    with pytest.raises(CannotPlan) as caught:
        plan(**task)
    assert [reason.path for reason in caught.value.reasons] == [where]
    assert says in caught.value.reasons[0].sentence


def test_stream_of_one_executor_is_seen_by_the_next() -> None:
    task = TesTask.model_validate_json(
        json.dumps(
            {
                "executors": [
                    {"image": "a", "command": ["x"], "stdout": "/pipe/1.txt"},
                    {"image": "b", "command": ["y"], "stdin": "/pipe/1.txt", "stdout": "/pipe/more/2.txt"},
                ],
                "outputs": [out("/pipe/more/2.txt")],
            }
        )
    )
    found = make_plan(task, SITE)
    assert found.mounts == (Mount("/pipe"),)
    assert found.directories == ("/pipe", "/pipe/more")


def test_mounts_of_thousands_of_files_are_found_in_linear_time() -> None:
    few = plan(inputs=[file_in(f"/data/{n}/x") for n in range(4000)])
    assert len(few.mounts) == 4000
    many = plan(inputs=[file_in(f"/data/d/{n}") for n in range(4000)])
    assert (many.mounts, len(many.inputs)) == ((Mount("/data/d"),), 4000)
