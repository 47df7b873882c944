"""The models against the official document of TES 1.1.0: a forgotten field, type or enum value fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from tesk.tes import models
from tesk.tes.models import TesFileType, TesServiceInfo, TesServiceOrganization, TesServiceType, TesTask
from tesk.tes.states import State

DATA = Path(__file__).parents[1] / "data"
OFFICIAL: dict[str, Any] = yaml.safe_load((DATA / "tes-1.1.0.openapi.yaml").read_text())["components"]["schemas"]

ENUMS = {"tesFileType": TesFileType, "tesState": State}


class At(NamedTuple):
    """One point that the document and the models can disagree in."""

    schema: str
    field: str
    aspect: str


SERVICE_INFO = "GA4GH service-info 1.0.0, which the document names as a remote $ref, has it"
NULLS = "Cromwell sends null values (`parent_workflow_id: null`); they are dropped"

DELIBERATE = {
    At("tesResources", "cpu_cores", "type"): "fractions are accepted, as in the draft of TES 1.2",
    At("tesOutputFileLog", "size_bytes", "type"): "int64 in a string: TESK writes digits, and reads any string",
    At("tesTask", "tags", "null values"): NULLS,
    At("tesResources", "backend_parameters", "null values"): NULLS,
    At("tesExecutor", "env", "null values"): NULLS,
    At("tesTaskLog", "metadata", "null values"): NULLS,
    At("tesServiceType", "artifact", "required"): "it has a default, so that it is always written",
    At("tesServiceType", "artifact", "enum"): "other servers are read even when they name it otherwise",
    At("tesServiceType", "group", "only in the model"): SERVICE_INFO,
    At("tesServiceType", "version", "only in the model"): SERVICE_INFO,
    At("tesServiceInfo", "type", "required"): SERVICE_INFO,
    **{
        At("tesServiceInfo", field, "only in the model"): SERVICE_INFO
        for field in (
            "id",
            "name",
            "description",
            "organization",
            "contactUrl",
            "documentationUrl",
            "createdAt",
            "updatedAt",
            "environment",
            "version",
        )
    },
}
"""Every deliberate difference, with its reason. One that no longer exists fails the test too."""

NOT_IN_THE_DOCUMENT = {TesServiceOrganization: SERVICE_INFO}


def model_of(schema: str) -> type[BaseModel]:
    return getattr(models, schema[0].upper() + schema[1:])  # type: ignore[no-any-return]


def is_object(schema: dict[str, Any]) -> bool:
    return "enum" not in schema


def properties_of(schema: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """The properties and required names in the document itself, without those behind a remote $ref."""
    parts = [one for one in schema.get("allOf", [schema]) if "$ref" not in one]
    properties = {name: one for part in parts for name, one in part.get("properties", {}).items()}
    return properties, {name for part in parts for name in part.get("required", ())}


def official_type(prop: dict[str, Any]) -> str:
    if "$ref" in prop:
        return str(prop["$ref"]).rpartition("/")[2]
    match prop["type"], prop.get("format"):
        case "array", None:
            return f"list of {official_type(prop['items'])}"
        case "object", None:
            return f"map of {official_type(prop['additionalProperties'])}"
        case ("boolean", "boolean" | None) | ("string", None) as plain:
            return str(plain[0])
        case type_, format_:
            return f"{type_} {format_}"


def model_type(prop: dict[str, Any]) -> str:
    """The same words for a property of pydantic's JSON schema, where optional means "or null"."""
    if "$ref" in prop:
        name = str(prop["$ref"]).rpartition("/")[2].removeprefix("Tes")
        return f"tes{name}"
    if "anyOf" in prop:
        return " or ".join(model_type(one) for one in prop["anyOf"] if one != {"type": "null"})
    match prop["type"]:
        case "array":
            return f"list of {model_type(prop['items'])}"
        case "object":
            return f"map of {model_type(prop['additionalProperties'])}"
        case "integer":
            bounds = (prop.get("minimum"), prop.get("maximum"))
            return "integer int32" if bounds == (-(2**31), 2**31 - 1) else f"integer {bounds}"
        case "number":
            return "number double"
        case type_:
            return str(type_)


def takes_null_values(schema: str, field: str) -> bool:
    """Whether the model accepts `{"key": null}` for this map."""
    try:
        model_of(schema).__pydantic_validator__.validate_assignment(
            model_of(schema).model_construct(), field, {"key": None}
        )
    except ValidationError:
        return False
    return True


def compare(schema: str, official: dict[str, Any]) -> Iterator[At]:
    """Every point in which the model differs from the document's schema."""
    model = model_of(schema)
    wanted, required = properties_of(official)
    here = model.model_json_schema()
    found = here.get("properties", {})
    yield from (At(schema, field, "not in the model") for field in wanted.keys() - found.keys())
    yield from (At(schema, field, "only in the model") for field in found.keys() - wanted.keys())
    for field in wanted.keys() & found.keys():
        if official_type(wanted[field]) != model_type(found[field]):
            yield At(schema, field, "type")
        if (field in required) != (field in here.get("required", ())):
            yield At(schema, field, "required")
        if wanted[field].get("enum") != found[field].get("enum"):
            yield At(schema, field, "enum")
        if "additionalProperties" in wanted[field] and takes_null_values(schema, field):
            yield At(schema, field, "null values")


OBJECTS = [schema for schema, one in OFFICIAL.items() if is_object(one)]


def test_every_schema_of_the_document_has_a_model_and_every_model_a_schema() -> None:
    ours = {
        getattr(models, name)
        for name in models.__all__
        if isinstance(getattr(models, name), type) and issubclass(getattr(models, name), BaseModel)
    }
    assert ours == {model_of(schema) for schema in OBJECTS} | NOT_IN_THE_DOCUMENT.keys()
    assert OFFICIAL.keys() - set(OBJECTS) == ENUMS.keys()


@pytest.mark.parametrize("schema", ENUMS)
def test_enums_have_the_same_values_in_the_same_order(schema: str) -> None:
    assert [one.value for one in ENUMS[schema]] == OFFICIAL[schema]["enum"]


@pytest.mark.parametrize("schema", OBJECTS)
def test_model_differs_from_the_document_only_where_listed(schema: str) -> None:
    assert set(compare(schema, OFFICIAL[schema])) == {at for at in DELIBERATE if at.schema == schema}


def test_every_listed_difference_is_about_a_schema_of_the_document_and_says_why() -> None:
    assert {at.schema for at in DELIBERATE} <= set(OBJECTS)
    assert all(DELIBERATE.values())


@pytest.mark.parametrize(
    ("change", "at"),
    [
        (lambda one: one["properties"].update(gpu={"type": "string"}),
         At("tesExecutor", "gpu", "not in the model")),
        (lambda one: one["properties"].pop("stdin"), At("tesExecutor", "stdin", "only in the model")),
        (lambda one: one["properties"]["env"]["additionalProperties"].update(type="integer"),
         At("tesExecutor", "env", "type")),
        (lambda one: one["properties"]["command"]["items"].update(type="boolean"),
         At("tesExecutor", "command", "type")),
        (lambda one: one["required"].remove("image"), At("tesExecutor", "image", "required")),
        (lambda one: one["required"].append("workdir"), At("tesExecutor", "workdir", "required")),
    ],
)  # fmt: skip
def test_comparison_sees_a_changed_document(change: Any, at: At) -> None:
    changed = json.loads(json.dumps(OFFICIAL["tesExecutor"]))
    change(changed)
    assert at in set(compare("tesExecutor", changed))


@pytest.mark.parametrize(
    ("official", "model"),
    [
        ({"type": "integer", "format": "int32"}, {"type": "integer"}),
        ({"type": "integer", "format": "int32"}, {"type": "integer", "maximum": 2**31 - 1}),
        (
            {"type": "integer", "format": "int64"},
            {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
        ),
        ({"type": "number", "format": "float"}, {"type": "number"}),
        ({"$ref": "#/components/schemas/tesInput"}, {"$ref": "#/$defs/TesOutput"}),
    ],
)
def test_comparison_tells_formats_and_references_apart(official: dict[str, Any], model: dict[str, Any]) -> None:
    assert official_type(official) != model_type(model)


def optional_fields() -> Iterator[tuple[type[BaseModel], str]]:
    for schema in OBJECTS:
        for name, field in model_of(schema).model_fields.items():
            if not field.is_required() and model_of(schema) is not TesServiceType:
                yield model_of(schema), name


VALID: dict[str, Any] = {
    "TesExecutor": {"image": "i", "command": ["c"]},
    "TesExecutorLog": {"exit_code": 0},
    "TesInput": {"path": "/p"},
    "TesOutput": {"url": "s3://b/o", "path": "/p"},
    "TesTaskLog": {"logs": [], "outputs": []},
    "TesTask": {"executors": []},
    "TesListTasksResponse": {"tasks": []},
    "TesServiceInfo": {
        "id": "i",
        "name": "n",
        "type": {},
        "organization": {"name": "o", "url": "https://o.org"},
        "version": "1",
    },
}
"""The least that each model with required fields accepts."""


@pytest.mark.parametrize(("model", "field"), list(optional_fields()))
def test_null_is_accepted_wherever_a_field_is_optional(model: type[BaseModel], field: str) -> None:
    text = json.dumps({**VALID.get(model.__name__, {}), field: None})
    assert getattr(model.model_validate_json(text), field) is None


@pytest.mark.parametrize("name", [name for name in VALID if name != "TesServiceInfo"])
def test_null_is_refused_where_a_field_is_required(name: str) -> None:
    model: type[BaseModel] = getattr(models, name)
    for field in VALID[name]:
        with pytest.raises(ValidationError):
            model.model_validate_json(json.dumps({**VALID[name], field: None}))


def test_null_value_in_a_map_is_dropped() -> None:
    task = TesTask.model_validate_json('{"executors": [], "tags": {"kept": "", "dropped": null}}')
    assert task.tags == {"kept": ""}


@pytest.mark.parametrize(
    ("model", "field", "fits", "too_much"),
    [
        (models.TesExecutorLog, "exit_code", -(2**31), -(2**31) - 1),
        (models.TesExecutorLog, "exit_code", 2**31 - 1, 2**31),
        (models.TesResources, "cpu_cores", 2**31 - 1, 2**31),
    ],
)
def test_int32_fields_hold_int32_and_no_more(model: type[BaseModel], field: str, fits: int, too_much: int) -> None:
    assert getattr(model.model_validate_json(json.dumps({field: fits})), field) == fits
    with pytest.raises(ValidationError):
        model.model_validate_json(json.dumps({field: too_much}))


@pytest.mark.parametrize(("sent", "kept"), [("0.5", 0.5), ("2", 2), ("2.0", 2), ("1e0", 1)])
def test_cpu_cores_keeps_a_fraction_and_a_whole_number_stays_an_integer(sent: str, kept: float) -> None:
    resources = models.TesResources.model_validate_json(f'{{"cpu_cores": {sent}}}')
    assert (resources.cpu_cores, type(resources.cpu_cores)) == (kept, type(kept))


@pytest.mark.parametrize(
    "text",
    [
        '{"executors": [{"image": "i", "command": "echo"}]}',
        '{"executors": [{"image": "i", "command": [1]}]}',
        '{"executors": [{"image": 1, "command": ["a"]}]}',
        '{"executors": [], "resources": {"cpu_cores": "1"}}',
        '{"executors": [], "resources": {"cpu_cores": true}}',
        '{"executors": [], "resources": {"ram_gb": "1"}}',
        '{"executors": [], "resources": {"ram_gb": NaN}}',
        '{"executors": [], "resources": {"ram_gb": 1e999}}',
        '{"executors": [], "resources": {"preemptible": "true"}}',
        '{"executors": [], "inputs": [{"path": "/a", "type": "file"}]}',
        '{"executors": [], "state": "DONE"}',
        '{"executors": [], "tags": {"a": 1}}',
        '{"executors": [], "name": "\\ud800"}',
        "[]",
    ],
)
def test_a_value_of_another_type_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TesTask.model_validate_json(text)


def test_unknown_fields_are_taken_out_with_their_paths() -> None:
    task = TesTask.model_validate_json(
        json.dumps(
            {
                "executors": [{"image": "i", "command": ["c"]}, {"image": "i", "command": ["c"], "gpu": 1}],
                "inputs": [{"path": "/a", "content": "x", "mode": {"deep": [None]}}],
                "resources": {"cpu_cores": 1, "nodes": 2, "cpus": 3},
                "priority": "high",
                "tags": {"free": "text"},
            }
        )
    )
    taken = list(models.take_unknown(task))
    assert sorted(taken) == [
        "executors[1].gpu",
        "inputs[0].mode",
        "priority",
        "resources.cpus",
        "resources.nodes",
    ]
    assert list(models.take_unknown(task)) == []
    assert json.loads(task.model_dump_json(exclude_none=True)) == {
        "executors": [{"image": "i", "command": ["c"]}, {"image": "i", "command": ["c"]}],
        "inputs": [{"path": "/a", "content": "x"}],
        "resources": {"cpu_cores": 1},
        "tags": {"free": "text"},
    }


@pytest.mark.parametrize("client", sorted((DATA / "clients").glob("*.json")), ids=lambda path: path.stem)
def test_recorded_task_of_a_client_is_kept_as_it_was_sent(client: Path) -> None:
    task = TesTask.model_validate_json(client.read_bytes())
    assert list(models.take_unknown(task)) == []
    assert json.loads(task.model_dump_json(exclude_none=True)) == without_nulls(json.loads(client.read_text()))


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def test_service_info_of_the_document_s_examples_is_read_and_written() -> None:
    properties, _ = properties_of(OFFICIAL["tesServiceInfo"])
    sent = {
        **VALID["TesServiceInfo"],
        "type": {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"},
        "storage": properties["storage"]["example"],
        "tesResources_backend_parameters": properties["tesResources_backend_parameters"]["example"],
    }
    info = TesServiceInfo.model_validate_json(json.dumps(sent))
    assert info.model_dump(exclude_none=True) == sent


SLIPS = {("tesTaskLog", "metadata"), ("tesResources", "zones"), ("tesOutputFileLog", "size_bytes")}
"""The document's own: a number among strings, a string for a list, a list for a string."""


@pytest.mark.parametrize(
    ("schema", "field", "example"),
    [
        (schema, field, one["example"])
        for schema in OBJECTS
        for field, one in properties_of(OFFICIAL[schema])[0].items()
        if "example" in one and (schema, field) not in SLIPS
    ],
)
def test_examples_of_the_document_are_valid(schema: str, field: str, example: Any) -> None:
    kind = TypeAdapter(model_of(schema).model_fields[field].annotation)
    kind.validate_json(json.dumps(example, default=str))
