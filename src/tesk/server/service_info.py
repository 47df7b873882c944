"""What the service says of itself: GA4GH service-info 1.0.0 with TES's additions, and the shape before it."""

from __future__ import annotations

from typing import Any

from tesk import __version__
from tesk.config import Config
from tesk.plan.site import Site

__all__ = ["legacy_service_info", "service_info"]


def service_info(config: Config, site: Site) -> dict[str, Any]:
    """`tesServiceInfo` (TES 1.1.0); what is not configured is left out."""
    service = config.service
    info = {
        "id": service.id,
        "name": service.name,
        "type": {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"},
        "description": service.description,
        "organization": {"name": service.organization_name, "url": service.organization_url},
        "contactUrl": service.contact_url,
        "documentationUrl": service.documentation_url,
        "environment": service.environment,
        "version": __version__,
        "storage": _storage(site),
        "tesResources_backend_parameters": sorted(site.backend_parameters),
    }
    return {key: value for key, value in info.items() if value != ""}


def legacy_service_info(config: Config, site: Site) -> dict[str, Any]:
    """`/v1/tasks/service-info` as before TES 1.1: Toil, through py-tes 0.4.2, takes no other key."""
    return {"name": config.service.name, "doc": config.service.description, "storage": _storage(site)}


def _storage(site: Site) -> list[str]:
    return [f"file://{root}" for root in site.file_roots] + [f"{scheme}://" for scheme in sorted(site.schemes)]
