"""What the API server refuses, told so that one knows whether to wait. The messages are a 1.34 API server's own."""

from __future__ import annotations

import pytest
from lightkube.models.meta_v1 import Status

from tesk.backends.kubernetes.observation import Waiting
from tesk.backends.kubernetes.refusals import refused

CLAIM = "its volume claim"


def answer(code: int, message: str) -> Waiting | None:
    return refused(Status(code=code, message=message, status="Failure"), CLAIM)


@pytest.mark.parametrize(
    ("code", "message", "sentence", "curable"),
    [
        (
            403,
            'persistentvolumeclaims "b" is forbidden: exceeded quota: disks, requested: persistentvolumeclaims=1, '
            "used: persistentvolumeclaims=1, limited: persistentvolumeclaims=1",
            "quota 'disks' of the namespace is used up (persistentvolumeclaims: 1 more, 1 of 1 in use)",
            True,
        ),
        (
            403,
            'persistentvolumeclaims "b" is forbidden: exceeded quota: disks, requested: requests.storage=3Gi, '
            "used: requests.storage=0, limited: requests.storage=2048Mi",
            "its volume claim is larger than quota 'disks' of the namespace allows "
            "(requests.storage: 3Gi more, 0 of 2048Mi in use)",
            False,
        ),
        (
            403,
            'persistentvolumeclaims "c" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but '
            "request is 2Gi",
            "the cluster refuses its volume claim: maximum storage usage per PersistentVolumeClaim is 1Gi, but "
            "request is 2Gi",
            False,
        ),
        (
            422,
            'PersistentVolumeClaim "c" is invalid: spec.resources[storage]: Invalid value: "-1": must be greater than '
            "zero",
            'the cluster refuses its volume claim: PersistentVolumeClaim "c" is invalid: spec.resources[storage]: '
            'Invalid value: "-1": must be greater than zero',
            False,
        ),
        (
            403,
            'configmaps is forbidden: User "a" cannot create resource "configmaps" in the namespace "b"',
            'the cluster refuses its volume claim: configmaps is forbidden: User "a" cannot create resource '
            '"configmaps" in the namespace "b"',
            False,
        ),
        (404, 'namespaces "b" not found', 'the cluster refuses its volume claim: namespaces "b" not found', False),
        (
            400,
            'admission webhook "policy.example" denied the request: no.',
            'the cluster refuses its volume claim: admission webhook "policy.example" denied the request: no',
            False,
        ),
    ],
)
def test_a_refusal_says_why_and_whether_waiting_helps(code: int, message: str, sentence: str, curable: bool) -> None:
    assert answer(code, message) == Waiting(sentence, curable)


@pytest.mark.parametrize("code", [409, 429, 500, 503, 504])
def test_what_may_work_the_next_time_is_no_refusal(code: int) -> None:
    assert answer(code, "Operation cannot be fulfilled on resourcequotas") is None


def test_a_refusal_without_words_is_still_a_sentence() -> None:
    assert refused(Status(code=403), CLAIM) == Waiting(
        "the cluster refuses its volume claim: the API server answered 403", False
    )
