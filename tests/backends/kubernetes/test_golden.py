"""Every object of an attempt, as a whole, beside YAML that a person has read.

With TESK_TEST_UPDATE_GOLDEN=1 the files are written anew; read what changed before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from tests.backends.kubernetes.attempts import CASES, objects, readable

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", CASES)
def test_the_objects_of_an_attempt_are_as_they_were_read(name: str) -> None:
    file = GOLDEN / f"{name}.yaml"
    made = [readable(one) for one in objects(*CASES[name])]
    if os.environ.get("TESK_TEST_UPDATE_GOLDEN"):
        file.write_text(yaml.safe_dump_all(made, allow_unicode=True, width=110))
    assert made == list(yaml.safe_load_all(file.read_text()))


def test_there_is_no_golden_file_too_many() -> None:
    assert {one.stem for one in GOLDEN.glob("*.yaml")} == set(CASES)
