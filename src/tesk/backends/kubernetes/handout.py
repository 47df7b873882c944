"""What the server hands to an attempt's taskmaster and filers: plan and site, as ConfigMaps and as mounted files."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap

from tesk.backends.base import AttemptKey
from tesk.backends.kubernetes.labels import labels_of
from tesk.backends.kubernetes.names import Owner, plan_names
from tesk.backends.kubernetes.objects import PARTS_ANNOTATION, make_metadata
from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.backends.kubernetes.pods import OWNER_FILE
from tesk.plan.model import Plan
from tesk.storage.options import StorageSettings

__all__ = ["PART_BYTES", "Handout", "make_plan_config_maps", "owned_by", "read_attempt"]

PART_BYTES = 900 << 10
"""The most of a plan, compressed, that one ConfigMap holds; the API server takes 1 MiB in all."""

_PLAN, _SITE, _ATTEMPT = "plan.json.gz", "site.json", "attempt.json"


@dataclass(frozen=True, slots=True)
class Handout:
    """What a taskmaster or a filer knows when it starts."""

    owner: Owner
    plan: Plan
    options: KubernetesOptions
    storage: StorageSettings


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
        _SITE: json.dumps(site, separators=(",", ":"), ensure_ascii=False),
        _ATTEMPT: json.dumps(about, separators=(",", ":")),
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
            binaryData={_part_name(number): base64.b64encode(piece).decode()},
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


def read_attempt(directory: Path) -> Handout:
    """What `make_plan_config_maps` wrote, from the directory where the pod finds it.

    Raises ValueError, with a sentence, when anything is missing or cannot be read.
    """
    try:
        about = json.loads((directory / _ATTEMPT).read_bytes())
        site = json.loads((directory / _SITE).read_bytes())
        packed = b"".join((directory / _part_name(number)).read_bytes() for number in range(about["parts"]))
        uid = (directory / OWNER_FILE).read_text().strip()
        return Handout(
            Owner(AttemptKey(about["task"], about["attempt"]), uid, about["parts"]),
            Plan.from_json(gzip.decompress(packed)),
            KubernetesOptions.from_json(json.dumps(site["kubernetes"])),
            StorageSettings.from_data(site["storage"]),
        )
    except OSError as error:
        raise ValueError(f"{directory} holds no attempt: {error}") from error
    except (KeyError, TypeError, EOFError, zlib.error, json.JSONDecodeError) as error:
        raise ValueError(f"{directory} holds an attempt that cannot be read: {error!r}") from error


def _part_name(number: int) -> str:
    return f"{_PLAN}.{number:02d}"
