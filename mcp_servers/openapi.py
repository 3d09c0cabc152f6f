"""The control plane's description: an OpenAPI 3.1 document made from the very table that routes its requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mcp_servers.operations import OF_EPISODE, Operation
from mcp_servers.wire import Problem, ProblemCode
from trace_agents import __version__

STATUS: dict[ProblemCode, int] = {
    ProblemCode.BAD_JSON: 400,
    ProblemCode.UNAUTHORIZED: 401,
    ProblemCode.FORBIDDEN_ORIGIN: 403,
    ProblemCode.UNKNOWN_PATH: 404,
    ProblemCode.UNKNOWN_SPLIT: 404,
    ProblemCode.UNKNOWN_TASK: 404,
    ProblemCode.UNKNOWN_EPISODE: 404,
    ProblemCode.BAD_METHOD: 405,
    ProblemCode.EPISODE_GONE: 410,
    ProblemCode.TOO_LARGE: 413,
    ProblemCode.UNSUPPORTED_MEDIA: 415,
    ProblemCode.WRONG_HOST: 421,
    ProblemCode.INVALID: 422,
    ProblemCode.TASK_UNAVAILABLE: 424,
    ProblemCode.ENVIRONMENT_FAILED: 500,
    ProblemCode.FULL: 503,
}
"""HTTP status of each refusal."""

OF_BODY = (ProblemCode.BAD_JSON, ProblemCode.TOO_LARGE, ProblemCode.UNSUPPORTED_MEDIA)
"""What may be wrong with any body."""
OF_REQUEST = (ProblemCode.FORBIDDEN_ORIGIN, ProblemCode.WRONG_HOST, ProblemCode.ENVIRONMENT_FAILED)
"""What may be wrong with any request."""


def document(title: str, operations: Sequence[Operation], mcp_path: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `operations`, with the episodes' MCP endpoint `mcp_path` beside them."""
    models = {model for op in operations for model in (op.answer, _body(op)) if model} | {Problem}
    pairs = [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)]
    _, schemas = models_json_schema(pairs, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    paths: dict[str, dict[str, Any]] = {}
    for op in operations:
        paths.setdefault(op.path.replace(":path}", "}"), {})[op.method.lower()] = _described(op)
    paths.setdefault(mcp_path, {})["post"] = _mcp_endpoint()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": __version__,
            "description": "Control plane of an environment. Agents play over each episode's own MCP endpoint.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"control": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(op: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": op.name, "summary": op.summary, "responses": _responses(op)}
    parameters = _parameters(op)
    if parameters:
        described["parameters"] = parameters
    body = _body(op)
    if body is not None:
        described["requestBody"] = {"required": True, "content": _json(body)}
    # The empty requirement beside the token's says that a server without a token asks for none.
    described["security"] = [] if op.public else [{"control": []}, {}]
    return described


def _body(op: Operation) -> type[BaseModel] | None:
    return op.given if op.method == "POST" else None


def _responses(op: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {str(op.status): {"description": "Done."}}
    if op.answer is not None:
        responses[str(op.status)] = {"description": op.answer.__doc__ or "", "content": _json(op.answer)}
    problems = [*op.problems, *OF_REQUEST]
    problems += OF_BODY if _body(op) is not None else ()
    problems += (ProblemCode.INVALID,) if op.given is not None else ()
    problems += () if op.public else (ProblemCode.UNAUTHORIZED,)
    for status in sorted({STATUS[problem] for problem in problems}):
        codes = sorted({f"`{problem}`" for problem in problems if STATUS[problem] == status})
        responses[str(status)] = {"description": " or ".join(codes), "content": _json(Problem)}
    return responses


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def _parameters(op: Operation) -> list[dict[str, Any]]:
    """Path parameters, then, for a GET without any, the fields it takes as query parameters."""
    fields = op.given.model_json_schema() if op.given is not None else {"properties": {}}
    in_path = [part.partition("}")[0].partition(":")[0] for part in op.path.split("{")[1:]]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _required(fields["properties"].get(name))}
        for name in in_path
    ]
    if op.method == "POST" or in_path:
        return parameters
    required = fields.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in fields["properties"].items()
    ]


def _required(schema: dict[str, Any] | None) -> dict[str, Any]:
    """The schema of a field that is optional in its model and given in the path; a string's by default."""
    options = (schema or {}).get("anyOf", [{"type": "string"}])
    return dict(options[0])


def _mcp_endpoint() -> dict[str, Any]:
    problems = {str(STATUS[code]): {"description": f"`{code}`, as a JSON-RPC error."} for code in OF_EPISODE}
    return {
        "operationId": "mcp",
        "summary": "The agent's door: MCP over Streamable HTTP, revision 2026-07-28 or the initialize handshake.",
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
        "responses": {
            "200": {"description": "JSON-RPC answer.", "content": {"application/json": {"schema": {"type": "object"}}}},
            "202": {"description": "A notification was taken."},
            **problems,
        },
        "security": [],
    }
