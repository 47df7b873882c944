"""Fields that no specification names."""

from __future__ import annotations

from pydantic import BaseModel

from tesk.tes import models
from tesk.tes.models import TesTask, take_unknown

NESTED = {
    "x0": 1,
    "executors": [{"image": "i", "command": ["c"], "x1": 1}],
    "inputs": [{"path": "/a"}, {"path": "/b", "x2": 1}],
    "outputs": [{"path": "/a", "url": "s3://b/a", "x3": 1}],
    "resources": {"x4": 1},
    "logs": [
        {
            "logs": [{"exit_code": 0, "x5": 1}],
            "outputs": [{"url": "u", "path": "/p", "size_bytes": "1", "x6": 1}],
            "x7": 1,
        }
    ],
}


def test_unknown_fields_are_found_and_taken_out_at_every_depth() -> None:
    task = TesTask.model_validate(NESTED)
    assert sorted(take_unknown(task)) == [
        "executors[0].x1",
        "inputs[1].x2",
        "logs[0].logs[0].x5",
        "logs[0].outputs[0].x6",
        "logs[0].x7",
        "outputs[0].x3",
        "resources.x4",
        "x0",
    ]
    assert list(take_unknown(task)) == []


def test_every_field_that_holds_another_schema_is_looked_into() -> None:
    for name in models.__all__:
        schema = getattr(models, name)
        if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
            continue
        holding = {
            field
            for field, info in schema.model_fields.items()
            if any(other in str(info.annotation) for other in models.__all__ if other not in ("TesFileType", name))
        }
        assert holding == set(models._HOLDING.get(schema, ())), name
