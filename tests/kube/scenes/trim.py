"""Recorded objects as test data: only what tells something, the same in every run."""

from __future__ import annotations

import re
from typing import Any

from tests.kube.scenes.stage import Seen

__all__ = ["trim"]

Json = dict[str, Any]
KEPT_META = ("name", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "finalizers")
KEPT_CONTAINER = ("name", "image", "imagePullPolicy", "resources", "restartPolicy")
UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
RESOLVER = re.compile(r"on [\d.]+:53")
LONG_HEX = re.compile(r"[0-9a-f]{64}")


def trim(seen: Seen) -> Json:
    """What `seen` holds, as JSON."""
    return _clean(
        {
            "job": _job(seen.job.to_dict()) if seen.job else None,
            "pods": [_pod(pod.to_dict()) for pod in seen.pods],
            "claim": _claim(seen.claim.to_dict()) if seen.claim else None,
            "events": [_event(event.to_dict()) for event in seen.events],
        }
    )


def _pick(raw: Json, *keys: str) -> Json:
    return {key: raw[key] for key in keys if key in raw}


def _job(raw: Json) -> Json:
    template = raw["spec"]["template"]["spec"]
    spec = _pick(raw["spec"], "backoffLimit", "activeDeadlineSeconds", "suspend", "podFailurePolicy", "completions")
    spec["template"] = {"spec": _pod_spec(template)}
    return {"metadata": _pick(raw["metadata"], *KEPT_META), "spec": spec, "status": raw.get("status", {})}


def _pod(raw: Json) -> Json:
    status = {key: value for key, value in raw.get("status", {}).items() if not key.endswith(("IP", "IPs"))}
    for kind in ("containerStatuses", "initContainerStatuses"):
        for one in status.get(kind, ()):
            for gone in ("volumeMounts", "user", "allocatedResources", "resources"):
                one.pop(gone, None)
    return {"metadata": _pick(raw["metadata"], *KEPT_META), "spec": _pod_spec(raw["spec"]), "status": status}


def _pod_spec(raw: Json) -> Json:
    kept = _pick(raw, "nodeName", "restartPolicy", "activeDeadlineSeconds", "schedulingGates", "nodeSelector")
    for kind in ("containers", "initContainers"):
        if kind in raw:
            kept[kind] = [_pick(one, *KEPT_CONTAINER) for one in raw[kind]]
    return kept


def _claim(raw: Json) -> Json:
    return {
        "metadata": _pick(raw["metadata"], *KEPT_META),
        "spec": _pick(raw["spec"], "storageClassName", "resources", "accessModes"),
        "status": raw.get("status", {}),
    }


def _event(raw: Json) -> Json:
    kept = _pick(raw, "type", "reason", "message", "count", "firstTimestamp", "lastTimestamp", "eventTime")
    kept["involvedObject"] = _pick(raw["involvedObject"], "kind", "name", "fieldPath")
    kept["metadata"] = _pick(raw["metadata"], "creationTimestamp")
    return kept


def _clean(raw: Any) -> Any:
    """`raw` without ids that differ from run to run."""
    if isinstance(raw, dict):
        return {key: _clean(value) for key, value in raw.items() if value is not None}
    if isinstance(raw, list):
        return [_clean(one) for one in raw]
    if isinstance(raw, str):
        plain = RESOLVER.sub("on 10.96.0.10:53", LONG_HEX.sub("0" * 64, raw))
        return UID.sub("00000000-0000-0000-0000-000000000000", plain)
    return raw
