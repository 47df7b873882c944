"""The seed of a run."""

from __future__ import annotations

import pytest


@pytest.fixture
def fault_seed(request: pytest.FixtureRequest) -> int:
    """What `--seed` says, or what this run has drawn; it is printed at the beginning."""
    seed: int = request.config.getoption("seed")
    return seed
