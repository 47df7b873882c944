"""The ConfigMap in which a taskmaster leaves its newest report: it outlives the pod, and a server that is away."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import gzip
import zlib
from collections.abc import Iterator

from lightkube.resources.core_v1 import ConfigMap

from tesk.backends.kubernetes.names import Owner, report_name
from tesk.backends.kubernetes.objects import make_metadata
from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.taskmaster.report import Report

__all__ = ["REPORT_BYTES", "make_report_config_map", "read_report"]

REPORT_BYTES = 900 << 10
"""The most that a report takes, compressed; the API server takes 1 MiB in one ConfigMap."""

_REPORT = "report.json.gz"
_SMALLEST_EXCERPT = 256
_MOST_LOGS = 100


def make_report_config_map(
    owner: Owner, report: Report, options: KubernetesOptions, *, most: int = REPORT_BYTES
) -> ConfigMap:
    """The ConfigMap with `report`.

    One that is too large is cut where it hurts least: first the streams of executors, then the list of delivered files;
    a sentence in its `system_logs` says so.
    """
    packed = next(packed for one in _smaller(report) if len(packed := _packed(one)) <= most)
    return ConfigMap(
        metadata=make_metadata(owner, report_name(owner.key), "report", options),
        binaryData={_REPORT: base64.b64encode(packed).decode()},
    )


def read_report(config_map: ConfigMap) -> Report:
    """What `make_report_config_map` wrote.

    Raises ValueError when there is no report in it.
    """
    try:
        packed = base64.b64decode((config_map.binaryData or {})[_REPORT], validate=True)
        return Report.from_json(gzip.decompress(packed))
    except (KeyError, OSError, EOFError, zlib.error, binascii.Error) as error:
        raise ValueError(f"there is no report in this ConfigMap: {error!r}") from error


def _packed(report: Report) -> bytes:
    return gzip.compress(report.to_json().encode(), mtime=0)


def _smaller(report: Report) -> Iterator[Report]:
    """`report`, and then less and less of it."""
    yield report
    limit = max((len(text) for one in report.executors for text in (one.stdout, one.stderr)), default=0) // 2
    while limit >= _SMALLEST_EXCERPT:
        report = _with_shorter_streams(report, limit)
        yield report
        limit //= 2
    report = _with_shorter_streams(report, 0)
    yield report
    keep = len(report.outputs)
    while keep:
        keep //= 2
        sentence = (
            f"the list of delivered files is too long to be told: {len(report.outputs) - keep} of"
            f" {len(report.outputs)} are left out of it; they are delivered"
        )
        yield dataclasses.replace(
            report, outputs=report.outputs[:keep], system_logs=(*report.system_logs[:_MOST_LOGS], sentence)
        )
    yield Report(
        report.state,
        report.start_time,
        report.end_time,
        system_logs=("what became of this attempt is too long to be told",),
        lost=report.lost,
    )


def _with_shorter_streams(report: Report, limit: int) -> Report:
    executors = tuple(
        dataclasses.replace(one, stdout=_shortened(one.stdout, limit), stderr=_shortened(one.stderr, limit))
        for one in report.executors
    )
    return dataclasses.replace(report, executors=executors)


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head, tail = text[: limit // 2], text[len(text) - (limit - limit // 2) :]
    return f"{head}\n[... {len(text) - limit} characters left out, since the task's logs are too long ...]\n{tail}"
