"""What a task asks for that is no file: executors, resources, backend parameters, fields we do not know."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tesk.plan.model import MissingOutputs, Resources
from tesk.plan.paths import flaw, is_unicode
from tesk.plan.reasons import Faults
from tesk.plan.site import Parameter, Site
from tesk.tes.models import TesExecutor, TesResources, TesTask

__all__ = [
    "check_executor",
    "check_fields",
    "check_parameters",
    "check_resources",
    "image_name",
    "supported_parameters",
]

_GIGABYTE = 10**9
_INT64_MAX = 2**63 - 1
_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LARGEST = 2**31 - 1
_OF_THE_SERVER = ("id", "state", "logs", "creation_time")


def check_fields(task: TesTask, unknown: Sequence[str], site: Site, faults: Faults) -> list[str]:
    """Notes about fields that are not used: those of no specification, and those that only the server sets.

    With `site.unknown_fields` "refuse", fields of no specification are reasons instead.
    """
    notes = []
    for field in unknown:
        if site.unknown_fields == "refuse":
            faults.add(f"$.{field}", f"field '{field}' is not part of TES 1.1.0; take it out")
        else:
            notes.append(f"field '{field}' is not part of TES 1.1.0 and was ignored")
    return notes + [
        f"field '{field}' is set by the server alone; the value that was sent was ignored"
        for field in _OF_THE_SERVER
        if getattr(task, field)
    ]


def image_name(image: str) -> str:
    """The image as an engine takes it: without the `docker://` that some clients put before it."""
    return image.strip().removeprefix("docker://")


def check_executor(executor: TesExecutor, where: str, faults: Faults) -> None:
    """Note what no engine could start: no image, no command, or text that no process can be given."""
    image = image_name(executor.image)
    if not image:
        faults.add(f"{where}.image", "the image is blank; name a container image, such as 'ubuntu:24.04'")
    elif image.startswith("-") or flaw(image) or " " in image:
        faults.add(f"{where}.image", f"{image!r} is not the name of an image; name one, such as 'ubuntu:24.04'")
    if not executor.command:
        faults.add(f"{where}.command", "the command is empty; give the program and its arguments")
    elif not executor.command[0]:
        faults.add(f"{where}.command[0]", "the name of the program is empty; give the program first")
    for index, one in enumerate(executor.command):
        if not _can_be_passed(one):
            faults.add(f"{where}.command[{index}]", f"the argument {one!r} holds NUL or is not UTF-8; change it")
    for key, value in (executor.env or {}).items():
        if not key or "=" in key or not _can_be_passed(key):
            faults.add(f"{where}.env", f"{key!r} is not a variable's name; give a name without '=' and NUL")
        if not _can_be_passed(value):
            faults.add(f"{where}.env", f"the value of {key!r} holds NUL or is not UTF-8; change it")


def _can_be_passed(text: str) -> bool:
    """Whether a process can be given `text` as argument or variable."""
    return "\0" not in text and is_unicode(text)


def check_resources(resources: TesResources | None, site: Site, faults: Faults) -> Resources:
    """What the task asks for, in bytes, after comparing it with `site.capacity`.

    Zero gigabytes means that nothing was said. TES 1.1.0 `tesResources`: 1 GB is 10^9 bytes.
    """
    if resources is None:
        return Resources()
    cores, most = resources.cpu_cores, site.capacity.cpu_cores
    if cores is not None and cores <= 0:
        faults.add("$.resources.cpu_cores", f"asks for {cores:g} cpu cores; ask for more than 0, or leave it out")
    elif cores is not None and most is not None and cores > most:
        faults.add(
            "$.resources.cpu_cores",
            f"asks for {cores:.10g} cpu cores; {site.capacity_of} has {most:g}",
        )
    return Resources(
        cpu_cores=cores,
        ram_bytes=_bytes(resources.ram_gb, site.capacity.ram_bytes, "ram_gb", "memory", site, faults),
        disk_bytes=_bytes(resources.disk_gb, site.capacity.disk_bytes, "disk_gb", "disk", site, faults),
        preemptible=bool(resources.preemptible),
    )


def _bytes(gigabytes: float | None, most: int | None, field: str, of: str, site: Site, faults: Faults) -> int | None:
    if not gigabytes:
        return None
    where = f"$.resources.{field}"
    asked = round(gigabytes * _GIGABYTE) if abs(gigabytes) < _INT64_MAX else _INT64_MAX
    if gigabytes < 0:
        faults.add(where, f"asks for {gigabytes:g} GB of {of}; ask for more than 0, or leave it out")
    elif most is not None and asked > most:
        # Rounded down, so that a task that asks for what the sentence names fits.
        has = math.floor(most / _GIGABYTE * 100) / 100
        faults.add(where, f"asks for {gigabytes:.10g} GB of {of}; {site.capacity_of} has {has:.10g} GB")
    elif asked >= _INT64_MAX:
        faults.add(where, f"asks for {gigabytes:g} GB of {of}, which no machine has; a gigabyte is 10^9 bytes")
    return asked or None


def check_parameters(task: TesTask, site: Site, faults: Faults) -> tuple[MissingOutputs, dict[str, str], list[str]]:
    """What the task's backend parameters decide: what missing outputs do, what is acted on later (`Plan.parameters`),
    and a note for each that this site does not support.

    Keys are case-insensitive; with `backend_parameters_strict` an unsupported one is a reason (TES 1.1.0
    `tesResources.backend_parameters`).
    """
    chosen: dict[str, str] = {}
    notes: list[str] = []
    seen: dict[str, str] = {}
    strict = bool(task.resources and task.resources.backend_parameters_strict)
    for key, value in _parameters(task).items():
        where, small = f"$.resources.backend_parameters[{key!r}]", key.lower()
        if small in seen:
            faults.add(where, f"names the same parameter as {seen[small]!r}, since case does not count; keep one")
        elif small not in site.backend_parameters:
            if strict:
                known = ", ".join(sorted(site.backend_parameters)) or "none"
                faults.add(where, f"backend parameter '{key}' is not supported here; supported: {known}")
            else:
                notes.append(f"backend parameter '{key}' is not supported here and was ignored")
        else:
            rule = site.backend_parameters[small]
            found = _value(value, rule)
            if found is None:
                faults.add(where, f"'{value}' is not a value of {small}; {_wanted(rule)}")
            else:
                chosen[rule.name or small] = found
        seen.setdefault(small, key)
    missing = chosen.pop("missing_outputs", site.missing_outputs)
    return "warn" if missing == "warn" else "fail", chosen, notes


def _value(value: str, rule: Parameter) -> str | None:
    """`value` as the plan holds it, or None when `rule` does not allow it."""
    if rule.values is not None:
        return next((one for one in rule.values if one == value), None) or next(
            (one for one in rule.values if one.lower() == value.lower()), None
        )
    if rule.kind == "word":
        return value if _WORD.fullmatch(value) else None
    digits = value.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        return None
    number = int(digits)
    return str(number) if rule.least <= number <= (rule.most or _LARGEST) else None


def _wanted(rule: Parameter) -> str:
    if rule.values is not None:
        return "use " + " or ".join(f"'{one}'" for one in rule.values)
    if rule.kind == "word":
        return "give at most 63 of A-Z, a-z, 0-9, '-', '_' and '.', with a letter or digit first and last"
    return f"give a whole number from {rule.least} to {rule.most or _LARGEST}"


def supported_parameters(task: TesTask, site: Site) -> dict[str, str]:
    """The task's backend parameters that this site supports, as the client spelled them: what may be stored.

    TES 1.1.0 `tesResources.backend_parameters`: unsupported keys are neither stored nor returned.
    """
    return {key: value for key, value in _parameters(task).items() if key.lower() in site.backend_parameters}


def _parameters(task: TesTask) -> dict[str, str]:
    return (task.resources and task.resources.backend_parameters) or {}
