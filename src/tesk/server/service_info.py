"""What the service says of itself: GA4GH service-info 1.0.0 with TES's additions, and the shape before it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tesk import __version__
from tesk.config.models import ServiceConfig
from tesk.plan.site import Site
from tesk.server.tasks import now

__all__ = ["ServiceInfo", "legacy_service_info", "service_info"]


class ServiceInfo:
    """Both shapes as encoded JSON, ready to be sent, for `site`; `clock` gives `updatedAt`."""

    def __init__(self, service: ServiceConfig, site: Site, clock: Callable[[], str] = now) -> None:
        self._site = site
        self._clock = clock
        self.use(service)

    def use(self, service: ServiceConfig) -> None:
        """From now on say what `service` holds."""
        self.body = _encode(service_info(service, self._site, self._clock()))
        self.legacy_body = _encode(legacy_service_info(service, self._site))


def service_info(service: ServiceConfig, site: Site, updated_at: str) -> dict[str, Any]:
    """`tesServiceInfo` (TES 1.1.0); what is not configured is left out.

    `updated_at`: since when the service is as it is, RFC 3339.
    """
    info = {
        "id": service.id,
        "name": service.name,
        "type": {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"},
        "description": service.description,
        "organization": {"name": service.organization_name, "url": service.organization_url},
        "contactUrl": service.contact_url,
        "documentationUrl": service.documentation_url,
        "createdAt": service.created_at,
        "updatedAt": updated_at,
        "environment": service.environment,
        "version": __version__,
        "storage": _storage(site),
        "tesResources_backend_parameters": sorted(site.backend_parameters),
    }
    return {key: value for key, value in info.items() if value != ""}


def legacy_service_info(service: ServiceConfig, site: Site) -> dict[str, Any]:
    """`/v1/tasks/service-info` as before TES 1.1: Toil, through py-tes 0.4.2, takes no other key."""
    return {"name": service.name, "doc": service.description, "storage": _storage(site)}


def _storage(site: Site) -> list[str]:
    roots = [*site.file_roots, *(one.client_path for one in site.shared)]
    return [f"file://{root}" for root in roots] + [f"{scheme}://" for scheme in sorted(site.schemes)]


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
