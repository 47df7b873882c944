"""What the server hands to an attempt's taskmaster and filers: plan and site, as ConfigMaps."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json

from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap

from tesk.backends.key import AttemptKey
from tesk.backends.kubernetes.labels import labels_of
from tesk.backends.kubernetes.mounted import ABOUT, SITE, part_name
from tesk.backends.kubernetes.names import Owner, plan_names
from tesk.backends.kubernetes.objects import PARTS_ANNOTATION, make_metadata
from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.plan.model import Plan
from tesk.storage.options import StorageSettings

__all__ = ["PART_BYTES", "make_plan_config_maps", "owned_by"]

PART_BYTES = 900 << 10
"""The most of a plan, compressed, that one ConfigMap holds; the API server takes 1 MiB in all."""


def make_plan_config_maps(
    key: AttemptKey,
    plan: Plan,
    options: KubernetesOptions,
    storage: StorageSettings,
    *,
    part_bytes: int = PART_BYTES,
) -> tuple[ConfigMap, ...]:
    """The ConfigMaps that carry `plan` and the site to the attempt's pods.

    The first is the attempt's owner and must be created first; what it is called by the API server makes the others
    complete (`owned_by`). Most plans need no others.
    """
    packed = gzip.compress(plan.to_json().encode(), mtime=0)
    pieces = [packed[start : start + part_bytes] for start in range(0, len(packed), part_bytes)]
    site = {"kubernetes": json.loads(options.to_json()), "storage": dataclasses.asdict(storage)}
    about = {"task": key.task, "attempt": key.attempt, "parts": len(pieces)}
    small = {
        SITE: json.dumps(site, separators=(",", ":"), ensure_ascii=False),
        ABOUT: json.dumps(about, separators=(",", ":")),
    }
    return tuple(
        ConfigMap(
            metadata=ObjectMeta(
                name=name,
                labels={**options.labels, **labels_of(options.instance, key, "plan")},
                annotations={**options.annotations, **({} if number else {PARTS_ANNOTATION: str(len(pieces))})} or None,
            ),
            # The kubelet does not keep watching what cannot change.
            immutable=True,
            data=None if number else small,
            binaryData={part_name(number): base64.b64encode(piece).decode()},
        )
        for number, (name, piece) in enumerate(zip(plan_names(key, len(pieces)), pieces, strict=True))
    )


def owned_by(config_map: ConfigMap, owner: Owner, options: KubernetesOptions) -> ConfigMap:
    """One of the further ConfigMaps of a plan, once the first is there and owns it."""
    assert config_map.metadata is not None
    assert config_map.metadata.name is not None
    return ConfigMap(
        metadata=make_metadata(owner, config_map.metadata.name, "plan", options),
        immutable=config_map.immutable,
        binaryData=config_map.binaryData,
    )
