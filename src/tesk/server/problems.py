"""Errors as clients see them: RFC 9457 problem details, made in this one place.

They are sent as `application/problem+json`. The clients that insist on `application/json` (Cromwell's
akka-http, Nextflow's gson) insist on it for results only: an error's body they show as text, whatever its type.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tesk.plan.reasons import CannotPlan
from tesk.store import StoreError, Unstorable

__all__ = [
    "MEDIA_TYPE",
    "Problem",
    "encode_problem",
    "on_http_exception",
    "on_problem",
    "on_store_error",
    "refused",
    "unreadable",
]

_log = logging.getLogger("tesk.server")

MEDIA_TYPE = "application/problem+json"
MOST_ERRORS = 100
"""More than anybody reads; a body with a million faults must not make an answer of gigabytes."""
TOO_MANY_ERRORS = 10_000
"""To look at that many takes 50 ms, in which nobody else is answered."""


class Problem(Exception):
    """A request that is answered with an error.

    `detail` is one sentence for the user; `errors` are (JSON path or parameter, sentence) pairs: all faults.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


def encode_problem(problem: Problem, request_id: str) -> bytes:
    """The body of the answer. `type` is about:blank, so `title` is the status's phrase (RFC 9457, 4.2.1)."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.errors:
        body["errors"] = [{"path": path, "message": message} for path, message in problem.errors[:MOST_ERRORS]]
        if len(problem.errors) > MOST_ERRORS:
            body["detail"] += f" The first {MOST_ERRORS} of {len(problem.errors)} faults are listed."
    body["request_id"] = request_id
    # ASCII, so that a lone surrogate out of a client's JSON cannot break the answer.
    return json.dumps(body, separators=(",", ":")).encode("ascii")


def on_problem(request: Request, error: Exception) -> Response:
    """Starlette's handler for `Problem`."""
    assert isinstance(error, Problem)
    body = encode_problem(error, request.scope.get("request_id", ""))
    return Response(body, error.status, error.headers, MEDIA_TYPE)


def on_store_error(request: Request, error: Exception) -> Response:
    """Starlette's handler for `StoreError`: what it says is for the log alone; an error of tesk itself goes on."""
    assert isinstance(error, StoreError)
    if isinstance(error, Unstorable):
        raise error
    request_id = request.scope.get("request_id", "")
    _log.error("request %s: %s", request_id, error)
    detail = f"The server's store does not work now; its log says why under request id {request_id}. Try again later."
    return on_problem(request, Problem(503, detail, headers={"Retry-After": "5"}))


def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's handler for what its router raises: no such path, no such method."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = "There is nothing at this path; the API is at /ga4gh/tes/v1."
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted({*headers.get("Allow", "").split(", "), "OPTIONS"}))
        if request.method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": headers["Allow"]})
        detail = f"{request.method} is not possible here; possible are: {headers['Allow']}."
    else:
        detail = f"{error.detail}."
    return on_problem(request, Problem(error.status_code, detail, headers=headers))


def refused(error: CannotPlan) -> Problem:
    """A task that cannot be planned: 400 with every reason."""
    return Problem(400, _count("This task cannot run here", len(error.reasons)), error.reasons)


def unreadable(error: ValidationError, body: bytes) -> Problem:
    """A body that is no TES task: 400 with every fault and its JSON path."""
    if error.error_count() > TOO_MANY_ERRORS:
        return Problem(400, f"The body is not a TES task: it has {error.error_count()} faults, too many to list.")
    faults = error.errors(include_url=False, include_context=True, include_input=False)
    if faults[0]["type"] == "json_invalid":
        return Problem(400, _not_json(str(faults[0].get("ctx", {}).get("error", "")), body))
    errors = dict.fromkeys((_path(one["loc"]), _sentence(one)) for one in faults)
    return Problem(400, _count("The body is not a TES task", len(errors)), errors)


def _count(sentence: str, number: int) -> str:
    return f"{sentence}: {number} {'reason' if number == 1 else 'reasons'}, see errors."


def _not_json(why: str, body: bytes) -> str:
    if not body.strip():
        return "The body is empty; send a TES task as JSON."
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as fault:
        return f"The body is not UTF-8 text (byte {fault.start}); send a TES task as JSON in UTF-8."
    return f"The body is not JSON that can be read: {why}."


_UNION_TAGS = {"int", "float"}


def _path(loc: tuple[int | str, ...]) -> str:
    path = "$"
    for index, part in enumerate(loc):
        if isinstance(part, int):
            path += f"[{part}]"
        elif part == "[key]" or (part in _UNION_TAGS and index and loc[index - 1] == "cpu_cores"):
            continue
        else:
            path += f".{part}" if part.isidentifier() else f"[{part!r}]"
    return path


_SENTENCES = {
    "missing": "is required",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "int_type": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "too_long": "has too many items",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "int_parsing_size": "is too large",
}


def _sentence(fault: Any) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    if kind in _SENTENCES:
        return _SENTENCES[kind]
    if kind == "enum":
        return f"must be {context['expected']}"
    if kind == "less_than_equal":
        return f"must be at most {context['le']}"
    if kind == "greater_than_equal":
        return f"must be at least {context['ge']}"
    message = str(fault["msg"])
    return message[:1].lower() + message[1:]
