"""The loop between the store and the backend."""

from tesk.controller.controller import Controller, ControllerOptions

__all__ = ["Controller", "ControllerOptions"]
