"""What every test run prints: its seed, the figures that tests measured, and how often each reason skipped some."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any


def pytest_addoption(parser: Any) -> None:
    """`--seed`: what chance decides in tests/kube/faults, to have the same run again."""
    parser.addoption("--seed", type=int, default=None, help="the seed of what tests leave to chance; drawn by default")


def pytest_configure(config: Any) -> None:
    """Draw one seed for all processes of the run."""
    if config.option.seed is None:
        config.option.seed = random.randrange(10**6)


def pytest_report_header(config: Any) -> str:
    """Name it."""
    return f"seed: {config.option.seed}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name what was measured (`record_property("figure", …)`), and what to install for the tests that did not run."""
    figures = [
        text
        for report in terminalreporter.stats.get("passed", [])
        for name, text in report.user_properties
        if name == "figure"
    ]
    if figures:
        terminalreporter.section("figures")
        for text in figures:
            terminalreporter.line(f"  {text}")
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])
    )
    if reasons:
        terminalreporter.section("skipped, and why")
        for reason, count in reasons.most_common():
            terminalreporter.line(f"{count:4d}  {reason}")
