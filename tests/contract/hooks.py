"""What schemathesis cannot read out of the document; loaded by it (SCHEMATHESIS_HOOKS), in its own environment."""

from __future__ import annotations

import re

import schemathesis
from hypothesis import strategies as st

_names = st.text("abcXYZ019._-é ", min_size=1, max_size=12).filter(lambda name: name not in (".", ".."))

schemathesis.openapi.format(
    "container-path", st.lists(_names, min_size=1, max_size=3).map(lambda names: "/data/" + "/".join(names))
)
schemathesis.openapi.format("storage-url", _names.map(lambda name: f"s3://bucket/{name.strip() or 'x'}"))
schemathesis.openapi.format("image", st.sampled_from(["ubuntu", "quay.io/aptible/ubuntu", "registry:5000/a/b:v1.0"]))
schemathesis.openapi.format("argument", st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
schemathesis.openapi.format("page-token", st.just(""))  # any other is what a server gave, and so refused

IN_PROSE = [
    (r"\$\.(inputs|outputs)\[\d+\]\.(url|path)", "is absolute; a url is one that service-info names; either is named"),
    (r"\$\.(inputs|outputs)\[\d+\]\.content", "content is of files"),
    (r"\$\.outputs\[\d+\]\.path_prefix", "is there when, and holds what, a path with wildcards says"),
    (r"\$\.(volumes\[\d+\]|executors\[\d+\]\.(workdir|stdin|stdout|stderr))", "is an absolute path, below no file"),
    (r"\$\.executors\[\d+\]\.(image|command\[\d+\]|env)", "can be given to a process: no NUL, a name for what is run"),
    (r"\$\.resources\.(cpu_cores|ram_gb|disk_gb)", "is more than nothing and there is a machine that has it"),
    (r"\$\.resources\.backend_parameters\b.*", "is one that service-info names, when they are strict"),
    (r"tag_key|tag_value", "are zipped: no more values than keys, no key twice"),
]
"""Why a task or a query that the schema allows may be refused: the field, and what the document's text says of it."""


@schemathesis.check
def positive_data_acceptance_but_for_prose(ctx, response, case):
    """Data that the schema allows is accepted, or refused by what the document's text says, with path and sentence."""
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or response.status_code != 400:
        return
    errors = response.json().get("errors", [])
    unexplained = [one for one in errors if not any(re.fullmatch(path, one["path"]) for path, _ in IN_PROSE)]
    assert errors, f"valid data was refused without a reason: {response.text}"
    assert not unexplained, f"valid data was refused: {response.text}"


@schemathesis.check
def errors_are_problem_details(ctx, response, case):
    """Every refusal is problem details (RFC 9457) with a sentence and the request's id."""
    if response.status_code < 400 or case.method == "HEAD":
        return
    assert response.headers["content-type"] == ["application/problem+json"], response.headers
    body = response.json()
    assert body["status"] == response.status_code
    assert body["detail"].endswith(".")
    assert body["request_id"] == response.headers["x-request-id"][0]
    assert all(one["path"] and one["message"] for one in body.get("errors", []))
