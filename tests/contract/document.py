"""The official document as the server is held to it: a copy, with what the document says only in prose, or wrongly."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

__all__ = ["EXCLUDED_CHECKS", "OFFICIAL", "document"]

OFFICIAL = Path(__file__).parents[1] / "data" / "tes-1.1.0.openapi.yaml"

EXCLUDED_CHECKS = {
    "status_code_conformance": "the document lists 200 alone, no 4xx",
    "ignored_auth": "the server under test has no authentication",
    "positive_data_acceptance": "hooks.py has it, with the rules that the document has in prose",
}

_SENT = ("tesTask", "tesExecutor", "tesInput", "tesOutput", "tesResources")
_PATHS = {
    "tesExecutor": ("workdir", "stdin", "stdout", "stderr"),
    "tesInput": ("path",),
    "tesOutput": ("path",),
}


def document() -> dict[str, Any]:
    """The copy. A change that no longer fits the document raises KeyError."""
    copied: dict[str, Any] = yaml.safe_load(OFFICIAL.read_text())
    schemas = copied["components"]["schemas"]
    _inline_service_info(schemas)
    _tell_sent_from_shown(copied)
    _cancel_by_delete(copied["paths"])
    _list_parameters(copied["paths"]["/tasks"]["get"]["parameters"])
    _links(copied["paths"])
    schemas["tesTask"]["properties"]["executors"]["minItems"] = 1  # without any there is nothing to run: 400
    schemas["tesExecutor"]["properties"]["command"]["minItems"] = 1
    schemas["tesResources"]["properties"]["cpu_cores"] = {"type": "number"}  # fractions, as in the draft of TES 1.2
    _formats(schemas)
    _nulls(schemas)
    return copied


def _inline_service_info(schemas: dict[str, Any]) -> None:
    """GA4GH service-info 1.0.0 stands behind a remote $ref; the tests read no network."""
    text = {"type": "string"}
    service_type = {
        "type": "object",
        "required": ["group", "artifact", "version"],
        "properties": {"group": text, "artifact": text, "version": text},
    }
    service = {
        "type": "object",
        "required": ["id", "name", "type", "organization", "version"],
        "properties": {
            "id": text,
            "name": text,
            "type": service_type,
            "description": text,
            "organization": {
                "type": "object",
                "required": ["name", "url"],
                "properties": {"name": text, "url": {"type": "string", "format": "uri"}},
            },
            "contactUrl": {"type": "string", "format": "uri"},
            "documentationUrl": {"type": "string", "format": "uri"},
            "createdAt": {"type": "string", "format": "date-time"},
            "updatedAt": {"type": "string", "format": "date-time"},
            "environment": text,
            "version": text,
        },
    }
    for name, inlined in (("tesServiceType", service_type), ("tesServiceInfo", service)):
        _, *own = schemas[name]["allOf"]
        schemas[name]["allOf"] = [inlined, *own]


def _tell_sent_from_shown(copied: dict[str, Any]) -> None:
    """One schema for the task that is sent and for the one that is shown cannot be right.

    The MINIMAL view shows `id` and `state` alone, though the schema requires `executors`. What is shown has both of
    those, each file has its `type` (which "the server must fill in"), times are RFC 3339.
    """
    schemas = copied["components"]["schemas"]
    for name in _SENT:
        schemas[f"{name}Shown"] = copy.deepcopy(schemas[name])
    _replace(schemas["tesTaskShown"], {name: f"{name}Shown" for name in _SENT})
    schemas["tesTaskShown"]["required"] = ["id", "state"]
    schemas["tesTaskShown"]["properties"]["creation_time"]["format"] = "date-time"
    schemas["tesInputShown"]["required"] = ["path", "type"]
    schemas["tesOutputShown"]["required"] = ["path", "url", "type"]
    schemas["tesResourcesShown"]["properties"]["cpu_cores"] = {"type": "number"}
    for name in ("tesTaskLog", "tesExecutorLog"):
        for time in ("start_time", "end_time"):
            schemas[name]["properties"][time]["format"] = "date-time"
    schemas["tesTaskLog"]["properties"]["metadata"]["additionalProperties"] = {"type": "string"}
    shown = {"tesTask": "tesTaskShown"}
    _replace(schemas["tesListTasksResponse"], shown)
    _replace(copied["paths"]["/tasks/{id}"]["get"]["responses"], shown)


def _replace(here: Any, names: dict[str, str]) -> None:
    """Let every `$ref` below `here` to one of `names` mean another schema."""
    if isinstance(here, dict):
        name = str(here.get("$ref", "")).removeprefix("#/components/schemas/")
        if name in names:
            here["$ref"] = f"#/components/schemas/{names[name]}"
        for one in here.values():
            _replace(one, names)
    elif isinstance(here, list):
        for one in here:
            _replace(one, names)


def _cancel_by_delete(paths: dict[str, Any]) -> None:
    """Elixir's web components cancel by DELETE; an extension of ours, so that Allow names it."""
    cancel = paths["/tasks/{id}:cancel"]
    cancel["delete"] = {**copy.deepcopy(cancel["post"]), "operationId": "CancelTaskByDelete"}


def _list_parameters(parameters: list[dict[str, Any]]) -> None:
    """What the document says of the list's parameters in prose."""
    named = {one["name"]: one["schema"] for one in parameters if "name" in one}
    named["page_size"] |= {"minimum": 1, "maximum": 2047}
    named["page_token"]["format"] = "page-token"
    named["tag_key"] |= {"uniqueItems": True, "maxItems": 32}


def _links(paths: dict[str, Any]) -> None:
    """Where ids come from."""
    by_id = {"id": "$response.body#/id"}
    paths["/tasks"]["post"]["responses"][200]["links"] = {
        "get": {"operationId": "GetTask", "parameters": by_id},
        "cancel": {"operationId": "CancelTask", "parameters": by_id},
        "delete": {"operationId": "CancelTaskByDelete", "parameters": by_id},
    }


def _formats(schemas: dict[str, Any]) -> None:
    """What is generated for text that cannot be just any; hooks.py has the strategies."""
    for name, fields in _PATHS.items():
        for field in fields:
            schemas[name]["properties"][field]["format"] = "container-path"
    schemas["tesTask"]["properties"]["volumes"]["items"]["format"] = "container-path"
    schemas["tesExecutor"]["properties"]["image"]["format"] = "image"
    schemas["tesExecutor"]["properties"]["command"]["items"]["format"] = "argument"
    for name in ("tesInput", "tesOutput"):
        schemas[name]["properties"]["url"]["format"] = "storage-url"


def _nulls(schemas: dict[str, Any]) -> None:
    """null is accepted wherever a field is optional: pydantic-tes and Cromwell send it."""
    for name in _SENT:
        schema = schemas[name]
        for field, value in schema["properties"].items():
            if isinstance(value.get("additionalProperties"), dict):
                value["additionalProperties"]["nullable"] = True
            if field in schema.get("required", ()):
                continue
            if "$ref" in value:
                schema["properties"][field] = {"nullable": True, "allOf": [value]}
            else:
                value["nullable"] = True
                if "enum" in value:
                    value["enum"] = [*value["enum"], None]
