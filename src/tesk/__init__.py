"""TESK: GA4GH TES tasks on Kubernetes, and on one machine with nothing but Python."""

__version__ = "0.1.0"
