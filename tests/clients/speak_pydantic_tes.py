"""Every call of pydantic-tes on the server whose URL is the first argument."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantictes.api import TesClient
from pydantictes.models import TesTask
from speak import speak

client = TesClient(f"{sys.argv[1]}/")


def plain(found: Any) -> Any:
    """One of the client's objects as JSON data; what is None is left out."""
    return json.loads(found.model_dump_json(exclude_none=True))


speak(
    {
        "service_info": lambda: plain(client.service_info()),
        "create": lambda task: client.create_task(TesTask(**task)).id,
        "get": lambda id, view: plain(client.get_task(id, view)),
        "list": lambda: plain(client.list_tasks()),
        "cancel": lambda id: plain(client.cancel_task(id)),
    }
)
