"""What the sections of the configuration share: strictness, and kinds of values."""

from __future__ import annotations

import os.path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["Positive", "Root", "Seconds", "Section"]


def _root(value: str) -> str:
    if "\0" in value or not value.startswith("/"):
        raise ValueError("give absolute paths")
    return "/" + os.path.normpath(value).lstrip("/")


Root = Annotated[str, AfterValidator(_root)]
Positive = Annotated[float, Field(gt=0)]
Seconds = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section: unknown keys are faults, and no value is taken for another kind of value."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
