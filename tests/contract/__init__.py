"""The server against the official document of TES 1.1.0: `python -m tests.contract`, by schemathesis."""
