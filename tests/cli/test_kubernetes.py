"""`tesk kubernetes` as an operator calls it."""

from __future__ import annotations

import yaml
from tests.cli.command import Call


def test_manifests_are_yaml_on_stdout_and_the_warning_is_not(call: Call) -> None:
    result = call("kubernetes", "manifests", "--image", "x:1", "--namespace", "science", "--create-namespace")
    assert result.code == 0
    objects = list(yaml.safe_load_all(result.out))
    assert [one["kind"] for one in objects].count("Deployment") == 1
    assert objects[0]["metadata"]["name"] == "science"
    assert "the namespace 'science'" in result.err


def test_a_name_that_kubernetes_refuses_is_wrong_usage(call: Call) -> None:
    result = call("kubernetes", "manifests", "--image", "x:1", "--name", "My_Server")
    assert (result.code, result.out) == (2, "")
    assert "the name 'My_Server'" in result.err


def test_a_user_is_given_by_its_number(call: Call) -> None:
    result = call("kubernetes", "manifests", "--image", "x:1", "--run-as-user", "0")
    assert "run_as_user: 0" in result.out
    assert call("kubernetes", "manifests", "--image", "x:1", "--run-as-user", "-1").code == 2
