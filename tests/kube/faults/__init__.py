"""Faults at every step of a running task, on a real cluster: `make test-faults`, and a sample in `make test-kube`."""
