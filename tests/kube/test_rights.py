"""Rights: what the Roles give is what is needed, and what lacks is noticed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tesk.backends.kubernetes.cluster import Cluster as Api
from tesk.backends.kubernetes.rights import Right, missing_rights
from tesk.backends.kubernetes.roles import SERVER_RULES, TASKMASTER_RULES, Rule, make_role
from tests.kube.eventually import until
from tests.kube.space import Space

pytestmark = pytest.mark.kube


@pytest.mark.parametrize(("account", "rules"), [("tesk", SERVER_RULES), ("tesk-taskmaster", TASKMASTER_RULES)])
def test_each_rule_that_lacks_is_noticed(space: Space, tmp_path: Path, account: str, rules: tuple[Rule, ...]) -> None:
    config = space.kubeconfig(account, tmp_path)
    wanted = rights(rules)

    def missing() -> tuple[Right, ...]:
        async def ask() -> tuple[Right, ...]:
            async with Api.connect(str(config), namespace=space.name, qps=1000, burst=1000) as api:
                return await missing_rights(api, wanted)

        return asyncio.run(ask())

    assert missing() == ()
    try:
        for lacking in rules:
            space.make(make_role(account, space.name, tuple(one for one in rules if one != lacking)))
            until(lambda lacking=lacking: missing() == rights((lacking,)), f"{lacking} lacks, and nothing else")  # type: ignore[misc]
    finally:
        space.make(make_role(account, space.name, rules))
    until(lambda: missing() == (), "all rights are back")


def rights(rules: tuple[Rule, ...]) -> tuple[Right, ...]:
    """Each verb of `rules`."""
    found = []
    for one in rules:
        resource, _, sub = one.resource.partition("/")
        found += [Right(verb, one.group, resource, sub) for verb in one.verbs]
    return tuple(found)
