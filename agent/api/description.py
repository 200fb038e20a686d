# SPDX-License-Identifier: GPL-2.0-or-later
"""The OpenAPI 3.1 document, made of the table of endpoints and the models' own schemas."""

import json
from collections.abc import Iterable
from functools import cache

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from agent.api.call import Call
from agent.api.problems import CONTENT_TYPE, SECURITY_HEADERS, title
from agent.api.route import MAX_NUMBER, PREFIX, Reply, Route
from agent.model.answers import JsonObject, ProblemAnswer
from agent.system import facts

_TAGS = {
    "configuration": "The document that says all an administrator means.",
    "farms": "The document's farms one by one.",
    "network lists": "The document's lists of networks one by one.",
    "links": "The document's links one by one.",
    "snapshots": "Every document that ever was.",
    "state": "What is now.",
    "access": "Claim, log in, log out, the password, and what is open to all.",
}
_ABOUT = """\
Everything the appliance can do, as its GUI and command line use it. Send a session's or an API token as
`Authorization: Bearer TOKEN`. An ETag is the number of the snapshot in force; send it back as If-Match with a change,
and the change is refused with 412 when somebody else was faster. Errors are RFC 9457 problem documents that name every
fault with its JSON pointer."""
_ALWAYS = {
    400: "A parameter or header is not of its form.",
    500: "The agent failed; the detail has an id to look for in its journal.",
    503: "The appliance is starting.",
}


def openapi(routes: Iterable[Route], version: str) -> JsonObject:
    """The document that describes `routes`, for software `version`."""
    table = list(routes)
    refs, schemas = _schemas(table)
    paths: dict[str, JsonObject] = {}
    for route in table:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sluice",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "GPL-2.0-or-later", "identifier": "GPL-2.0-or-later"},
        },
        "servers": [{"url": PREFIX}],
        "tags": [{"name": name, "description": words} for name, words in _TAGS.items()],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A session's or an API token."}
            },
        },
    }


async def get_openapi(call: Call) -> web.Response:
    """The description of this API."""
    del call
    return web.Response(body=_text(), content_type="application/json", headers=SECURITY_HEADERS)


@cache
def _text() -> bytes:
    # Made once: anybody may ask for it, and making it takes as long as a hundred other answers.
    from agent.api.table import ROUTES  # noqa: PLC0415  the table names the handler of this

    return json.dumps(openapi(ROUTES, facts.version())).encode()


def _schemas(routes: list[Route]) -> tuple[dict[type[BaseModel], JsonObject], JsonObject]:
    models: dict[type[BaseModel], None] = {ProblemAnswer: None}
    for route in routes:
        models |= {model: None for model in (route.body, *(reply.model for reply in route.replies.values())) if model}
    refs, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    return {model: refs[model, "validation"] for model in models}, definitions["$defs"]


def _operation(route: Route, refs: dict[type[BaseModel], JsonObject]) -> JsonObject:
    operation: JsonObject = {"operationId": route.operation, "summary": route.summary, "tags": [route.tag]}
    if route.description:
        operation["description"] = route.description
    if route.is_open:
        operation["security"] = []
    parameters = [*map(_in_path, route.parameters)]
    parameters += [
        {"name": query.name, "in": "query", "description": query.description, "schema": query.schema()}
        for query in route.query
    ]
    if route.conditional:
        parameters.append(
            {
                "name": "If-Match",
                "in": "header",
                "description": "The ETag of the snapshot that the change was made from. Without it the change is made "
                "to whatever is in force.",
                "schema": {"type": "string", "examples": ['"12"']},
            }
        )
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "description": f"At most {route.limit} bytes.",
            "content": {"application/json": {"schema": refs[route.body]}},
        }
    problem = refs[ProblemAnswer]
    operation["responses"] = {str(status): _reply(reply, refs) for status, reply in route.replies.items()} | {
        str(status): {
            "description": words or title(status),
            "content": {CONTENT_TYPE: {"schema": problem}},
        }
        for status, words in sorted(_refusals(route).items())
    }
    return operation


def _refusals(route: Route) -> dict[int, str]:
    found = dict(_ALWAYS)
    if not route.is_open:
        found[401] = "There is no valid token."
    if route.body is not None:
        found |= {
            408: "The body did not arrive in time.",
            413: f"The body is larger than {route.limit} bytes.",
            415: "The body is not plain application/json in UTF-8.",
        }
    return found | dict(route.refusals)


def _in_path(name: str) -> JsonObject:
    schema: JsonObject = {"type": "integer", "minimum": 1, "maximum": MAX_NUMBER}
    words = "The snapshot's number."
    if name == "name":
        schema, words = {"type": "string"}, "The name."
    return {"name": name, "in": "path", "required": True, "description": words, "schema": schema}


def _reply(reply: Reply, refs: dict[type[BaseModel], JsonObject]) -> JsonObject:
    content: JsonObject = {"description": reply.description}
    schema = refs[reply.model] if reply.model is not None else reply.schema
    if schema is not None:
        content["content"] = {reply.media: {"schema": schema}}
    if reply.tagged:
        content["headers"] = {
            "ETag": {"description": "The number of the snapshot in force, in quotes.", "schema": {"type": "string"}}
        }
    return content
