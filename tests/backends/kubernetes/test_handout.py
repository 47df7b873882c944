"""Plan, site and report, on their way through ConfigMaps."""

from __future__ import annotations

import base64
import dataclasses
import random
from pathlib import Path

import pytest
from lightkube.resources.core_v1 import ConfigMap
from tests.backends.kubernetes.attempts import CASES, COPYING, EVERYTHING, KEY, OWNER, REPORT, SAY, SITE, STORAGE

from tesk.backends.kubernetes.handout import make_plan_config_maps, owned_by
from tesk.backends.kubernetes.mounted import Handout, read_attempt
from tesk.backends.kubernetes.names import Owner
from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.backends.kubernetes.report_map import make_report_config_map, read_report
from tesk.plan.model import Plan, Transfer
from tesk.storage import StorageSettings
from tesk.taskmaster.report import ExecutorEnd, OutputFile, Report
from tesk.tes.states import State

SETTINGS = StorageSettings(("/archive",), 5.0, 2, 4, "http://s3.example.org", "eu", s3_anonymous=True)


def mount(directory: Path, maps: tuple[ConfigMap, ...], uid: str) -> Path:
    """What a kubelet shows of the ConfigMaps."""
    for one in maps:
        for name, text in (one.data or {}).items():
            (directory / name).write_text(text)
        for name, packed in (one.binaryData or {}).items():
            (directory / name).write_bytes(base64.b64decode(packed))
    (directory / "owner").write_text(uid)
    return directory


@pytest.mark.parametrize("case", CASES)
def test_a_pod_reads_what_the_server_wrote(case: str, tmp_path: Path) -> None:
    key, plan, options = CASES[case]
    maps = make_plan_config_maps(key, plan, options, SETTINGS)
    found = read_attempt(mount(tmp_path, maps, "the-uid"))
    assert found == Handout(Owner(key, "the-uid", 1), plan, options, SETTINGS)


def test_a_plan_too_large_for_one_config_map_is_spread_over_several(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(3000).hex()
    plan = Plan((SAY,), inputs=(Transfer("/data/x", "FILE", content=noise),))
    maps = make_plan_config_maps(KEY, plan, SITE, STORAGE, part_bytes=1000)
    assert [one.metadata.name for one in maps if one.metadata] == [
        KEY.task,
        *(f"{KEY.task}-plan-{number:02d}" for number in range(1, len(maps))),
    ]
    assert len(maps) > 2
    assert maps[0].metadata is not None
    assert (maps[0].metadata.annotations or {})["tesk/parts"] == str(len(maps))
    owner = Owner(KEY, "u", len(maps))
    made = (maps[0], *(owned_by(one, owner, SITE) for one in maps[1:]))
    found = read_attempt(mount(tmp_path, made, "u"))
    assert (found.owner, found.plan) == (owner, plan)
    (tmp_path / "plan.json.gz.01").unlink()
    with pytest.raises(ValueError, match=r"holds no attempt.*plan\.json\.gz\.01"):
        read_attempt(tmp_path)


@pytest.mark.parametrize("broken", ["attempt.json", "site.json", "plan.json.gz.00"])
def test_a_handout_that_cannot_be_read_is_a_sentence(broken: str, tmp_path: Path) -> None:
    mount(tmp_path, make_plan_config_maps(KEY, COPYING, SITE, STORAGE), "u")
    (tmp_path / broken).write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"attempt|options|plan"):
        read_attempt(tmp_path)


def test_nothing_of_the_server_s_own_machine_travels() -> None:
    options = dataclasses.replace(EVERYTHING, kubeconfig="/home/ada/.kube/config", context="ada@lab")
    assert "ada" not in options.to_json()
    assert KubernetesOptions.from_json(options.to_json()) == EVERYTHING


def test_options_that_are_none_are_refused() -> None:
    for text in ("[]", "{", '{"imge": "x"}', '{"allowed": 5}'):
        with pytest.raises(ValueError, match="no options of the Kubernetes backend"):
            KubernetesOptions.from_json(text)


def test_a_report_is_read_as_it_was_written() -> None:
    assert read_report(make_report_config_map(OWNER, REPORT, SITE)) == REPORT


def test_what_is_no_report_is_refused() -> None:
    for data in (None, {}, {"report.json.gz": "!"}, {"report.json.gz": base64.b64encode(b"x").decode()}):
        with pytest.raises(ValueError, match="report"):
            read_report(ConfigMap(binaryData=data))


def test_a_report_with_streams_that_are_too_long_keeps_their_heads_and_tails() -> None:
    noise = random.Random(2)
    ends = tuple(
        ExecutorEnd("s", "e", 0, f"HEAD{noise.randbytes(20_000).hex()}TAIL", f"head{noise.randbytes(100).hex()}tail")
        for _ in range(5)
    )
    found = read_report(make_report_config_map(OWNER, Report(State.COMPLETE, executors=ends), SITE, most=20_000))
    assert [one.exit_code for one in found.executors] == [0] * 5
    for one in found.executors:
        assert one.stdout.startswith("HEAD")
        assert one.stdout.endswith("TAIL")
        assert "left out, since the task's logs are too long" in one.stdout


def test_a_report_with_too_many_files_says_how_many_it_does_not_list() -> None:
    noise = random.Random(3)
    outputs = tuple(OutputFile(f"s3://b/{noise.randbytes(20).hex()}", f"/o/{n}", n) for n in range(2000))
    found = read_report(make_report_config_map(OWNER, Report(State.COMPLETE, outputs=outputs), SITE, most=20_000))
    kept = len(found.outputs)
    assert 0 < kept < 2000
    assert found.outputs == outputs[:kept]
    assert found.system_logs == (
        f"the list of delivered files is too long to be told: {2000 - kept} of 2000 are left out of it;"
        " they are delivered",
    )


def test_a_report_always_finds_room_and_keeps_its_state() -> None:
    logs = tuple(random.Random(4).randbytes(50).hex() for _ in range(1000))
    report = Report(State.SYSTEM_ERROR, "s", "e", system_logs=logs, lost="the node is gone")
    found = read_report(make_report_config_map(OWNER, report, SITE, most=500))
    assert (found.state, found.start_time, found.lost) == (State.SYSTEM_ERROR, "s", "the node is gone")
