"""Every call of py-tes, 0.4.2 and 1.1.4, on the server whose URL is the first argument."""

from __future__ import annotations

import json
import sys
from typing import Any

from speak import speak

import tes

client = tes.HTTPClient(sys.argv[1], timeout=10)


def plain(found: Any) -> Any:
    """One of the client's objects as JSON data; what is None is left out."""
    return json.loads(found.as_json())


speak(
    {
        "service_info": lambda: plain(client.get_service_info()),
        "create": lambda task: client.create_task(tes.unmarshal(task, tes.Task)),
        "get": lambda id, **view: plain(client.get_task(id, **view)),
        "list": lambda **query: plain(client.list_tasks(**query)),
        "cancel": lambda id: client.cancel_task(id),
        "wait": lambda id: plain(client.wait(id, timeout=30)),
        "as_user": lambda **who: plain(tes.HTTPClient(sys.argv[1], timeout=10, **who).list_tasks()),
    }
)
