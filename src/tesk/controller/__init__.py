"""The loop between the store and the backend."""

from tesk.controller.controller import Controller, ControllerOptions
from tesk.controller.retention import Retention

__all__ = ["Controller", "ControllerOptions", "Retention"]
