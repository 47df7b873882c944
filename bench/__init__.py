"""Benchmarks: each figure beside its goal, measured now, on this machine."""
