# SPDX-License-Identifier: GPL-2.0-or-later
"""The OpenAPI document is valid, and says of every endpoint what the endpoint really does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from agent.api.app import create_app
from agent.api.description import openapi
from agent.api.route import PREFIX
from agent.api.table import ROUTES
from agent.client import Client
from agent.tests.api_world import FARM, World, running
from agent.tests.secret_world import certificate


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory: Path = tmp_path_factory.mktemp("agent")
    with running(directory) as found:
        yield found


@pytest.fixture(scope="module")
def document(world: World) -> Any:
    return world.client(token=None).openapi()


def test_it_keeps_the_rules_of_openapi(document: Any):
    assert document["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_it_has_every_route_of_the_application_and_no_other(world: World, document: Any):
    served = {
        (route.method, route.resource.canonical.removeprefix(PREFIX))
        for route in create_app(world.controller).router.routes()
        if route.method != "HEAD"
    }
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == served
    assert len(served) == len(ROUTES)


def test_operations_have_names_of_their_own():
    names = [route.operation for route in ROUTES]
    assert len(set(names)) == len(names)


def test_all_but_the_open_endpoints_ask_for_a_token(document: Any):
    is_open = {
        f"{method.upper()} {path}"
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if operation.get("security") == []
    }
    assert is_open == {"GET /claim", "POST /claim", "POST /sessions", "GET /console", "GET /openapi.json"}


def test_every_answer_fits_its_schema(world: World, document: Any):
    client = world.client()
    farms = {"web": {**FARM, "checks": [{"type": "tcp"}], "deny": ["bad"]}}
    lists = {"bad": {"networks": ["192.0.2.0/24"]}}
    links = {"eth0": {"addresses": ["192.0.2.1/24"]}}
    document_in_force = {"version": 1, "farms": farms, "network_lists": lists, "links": links}
    client.commit(document_in_force, comment="for its schema")
    client.put_secret("ours", "authorities", certificate()[0])
    calls = {
        "/configuration": "/configuration",
        "/farms": "/farms",
        "/farms/{name}": "/farms/web",
        "/farms/{name}/clients": "/farms/web/clients",
        "/network-lists": "/network-lists",
        "/network-lists/{name}": "/network-lists/bad",
        "/links": "/links",
        "/links/{name}": "/links/eth0",
        "/secrets": "/secrets",
        "/snapshots": "/snapshots",
        "/snapshots/{number}": "/snapshots/2",
        "/snapshots/{a}/diff/{b}": "/snapshots/1/diff/2",
        "/state": "/state",
        "/system": "/system",
        "/claim": "/claim",
        "/console": "/console",
        "/openapi.json": "/openapi.json",
    }
    gets = {path for path, item in document["paths"].items() if "get" in item}
    assert gets == calls.keys() | {"/metrics"}
    for path, real in calls.items():
        _fits(document, document["paths"][path]["get"]["responses"]["200"], client, real)


def _fits(document: Any, response: Any, client: Client, path: str) -> None:
    schema = response["content"]["application/json"]["schema"]
    validator = OAS31Validator({**schema, "components": document["components"]})
    answer = client.request("GET", path)
    assert [error.message for error in validator.iter_errors(answer.json())] == [], path
    if "ETag" in response.get("headers", {}):
        assert answer.snapshot == 2


def test_problems_fit_their_schema(world: World, document: Any):
    problem = {"$ref": "#/components/schemas/ProblemAnswer", "components": document["components"]}
    for operation in (item for path in document["paths"].values() for item in path.values()):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert response["content"]["application/problem+json"]["schema"]["$ref"] == problem["$ref"]
    validator = OAS31Validator(problem)
    for body in (
        {"type": "about:blank", "title": "x", "status": 412, "detail": "y", "current": 3},
        {
            "type": "about:blank",
            "title": "x",
            "status": 422,
            "detail": "y",
            "errors": [{"pointer": "/a", "detail": "z"}],
        },
    ):
        assert validator.is_valid(body)


def test_the_document_in_the_schema_refuses_what_the_model_refuses(document: Any):
    schema = {"$ref": "#/components/schemas/Configuration", "components": document["components"]}
    validator = OAS31Validator(schema)
    assert validator.is_valid({"farms": {"web": FARM}})
    for wrong in ({"colour": 1}, {"farms": {"web": {}}}, {"farms": {"web": {**FARM, "ports": [0]}}}):
        assert not validator.is_valid(wrong)


def test_it_does_not_depend_on_a_running_agent():
    assert json.dumps(openapi(ROUTES, "1.0"))


def test_the_manual_has_every_endpoint_and_metric(world: World):
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    for route in ROUTES:
        assert f"| `{route.method} {route.path}` |" in text
    for line in world.client().metrics().splitlines():
        if line.startswith("# TYPE "):
            assert f"`{line.split()[2]}`" in text
