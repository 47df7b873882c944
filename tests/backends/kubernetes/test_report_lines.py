"""Reports in a taskmaster's log, and what a server reads of them."""

from __future__ import annotations

import dataclasses

from tests.backends.kubernetes.attempts import REPORT

from tesk.backends.kubernetes.report_lines import ReportReader, ReportWriter
from tesk.taskmaster.report import ExecutorEnd, OutputFile, Report
from tesk.tes.states import State

LONG = ExecutorEnd("2026-05-01T09:00:02.000Z", "2026-05-01T09:00:03.000Z", 0, "x" * 60000, "�\x00\n")
REPORTS = (
    Report(State.INITIALIZING, "2026-05-01T09:00:00.000Z"),
    REPORT,
    dataclasses.replace(REPORT, executors=(*REPORT.executors, LONG)),
    dataclasses.replace(
        REPORT,
        state=State.COMPLETE,
        executors=(*REPORT.executors, LONG),
        outputs=(OutputFile("s3://b/k", "/out", 5),),
        metadata={"cpu_time_ms": "5"},
    ),
)


def lines() -> list[bytes]:
    writer = ReportWriter()
    return [writer.line(one) for one in REPORTS]


def test_each_line_brings_its_whole_report() -> None:
    reader, found = ReportReader(), []
    for line in lines():
        assert reader.feed(line)
        found.append(reader.newest)
    assert tuple(found) == REPORTS


def test_no_line_repeats_a_stream() -> None:
    written = lines()
    assert [line.count(b'"stdout"') for line in written] == [0, 1, 0, 0]
    assert len(written[2]) < 2000


def test_a_log_that_comes_in_single_bytes_says_the_same() -> None:
    reader = ReportReader()
    whole = b"something else\n".join(lines()) + b"tesk-report {}\ntesk-report.gz !\ntesk-report \xff\n"
    assert sum(reader.feed(whole[at : at + 1]) for at in range(len(whole))) == len(REPORTS)
    assert reader.newest == REPORTS[-1]


def test_a_line_that_is_cut_says_nothing_yet() -> None:
    first, *_ = lines()
    reader = ReportReader()
    assert not any(reader.feed(first[at : at + 1]) for at in range(len(first) - 1))
    assert reader.newest is None
    assert reader.feed(b"\n")


def test_what_lacks_the_lines_before_it_is_no_report() -> None:
    reader = ReportReader()
    assert not reader.feed(lines()[2])
    assert reader.newest is None
