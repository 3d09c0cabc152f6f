"""The control plane over HTTP: what it does, what it refuses and how, and that it is what `/openapi.json` says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from environment_serving import Served, serving
from jsonschema import Draft202012Validator
from ledger_environment import Ledger
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from mcp_servers.control import Control
from mcp_servers.episodes import EpisodeTable, Limits
from mcp_servers.gatekeeper import Gatekeeper
from mcp_servers.http import HttpConfig
from mcp_servers.operations import OPERATIONS
from mcp_servers.server import tool_result
from mcp_servers.wire import ControlError, ProblemCode, TaskChoice
from trace_agents.endpoint import Sampling
from trace_agents.environment import ResultsRequest
from trace_agents.types import TaskInstance

JSON = {"Content-Type": "application/json"}


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def client(ledger: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=ledger.url) as client:
        yield client


def problem(response: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message of a refusal, which is JSON and fits on one line."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"code", "error"}
    assert "\n" not in body["error"]
    return response.status_code, body["code"], body["error"]


@pytest.mark.parametrize("choice", [{"task_id": "train/1"}, {"split": "train", "index": 1}, {"seed": 7}])
def test_an_episode_is_created_played_judged_and_deleted(choice: dict[str, Any], client: httpx.Client) -> None:
    created = client.post("/episodes", json=choice)
    assert created.status_code == 201
    info = created.json()
    expected = Ledger().generate(7) if "seed" in choice else Ledger().task("train/1")
    assert TaskInstance.model_validate(info["task"]) == expected
    assert client.get(f"/episodes/{info['id']}").json() == info
    said = client.post(f"/episodes/{info['id']}/user_turn", json={"message": "hello"}).json()
    assert said == {"content": f"'hello'? I want {expected.data['amount']}."}
    assert client.post(f"/episodes/{info['id']}/user_turn", json={"message": "done"}).json() == {"content": None}

    async def play() -> None:
        async with Client(str(client.base_url).rstrip("/") + info["mcp_path"]) as agent:
            move = {"from": "ann", "to": "bob", "amount": expected.data["amount"]}
            assert not (await agent.call_tool("transfer", move)).is_error

    asyncio.run(play())
    messages = [{"role": "user", "content": expected.prompt}, {"role": "assistant", "content": "done"}]
    verdict = client.post(f"/episodes/{info['id']}/evaluate", json={"messages": messages}).json()
    assert verdict == {"reward": 1.0, "success": True, "breakdown": {"moved": 1.0, "told": 1.0}}
    deleted = client.delete(f"/episodes/{info['id']}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    gone = f"episode {info['id']!r} was deleted: create a new one"
    assert problem(client.get(f"/episodes/{info['id']}")) == (410, "episode_gone", gone)


def test_interleaved_episodes_of_one_task_share_nothing(ledger: Served, client: httpx.Client) -> None:
    one, two = (client.post("/episodes", json={"task_id": "train/0"}).json() for _ in range(2))
    start = one["task"]["data"]["accounts"]["ann"]

    async def play() -> list[str]:
        async with Client(ledger.url + one["mcp_path"]) as a, Client(ledger.url + two["mcp_path"], mode="legacy") as b:
            await a.call_tool("transfer", {"from": "ann", "to": "bob", "amount": 1})
            await b.call_tool("transfer", {"from": "ann", "to": "bob", "amount": 10})
            await a.call_tool("transfer", {"from": "ann", "to": "bob", "amount": 100})
            async with Client(ledger.url + one["mcp_path"]) as again:
                return [tool_result(await c.call_tool("balance", {"account": "ann"})).content for c in (a, b, again)]

    balances = [json.loads(text)["balance"] for text in asyncio.run(play())]
    assert balances == [start - 101, start - 10, start - 101]


def test_tasks_and_splits_are_listed_in_pages(client: httpx.Client) -> None:
    served = {
        "name": "ledger",
        "splits": {"train": 3, "test": 1},
        "provenance": {},
        "oracle": False,
        "results": False,
        "most_episodes": None,
    }
    assert client.get("/environment").json() == served
    page = client.get("/tasks", params={"split": "train", "offset": 1, "limit": 1}).json()
    assert (page["split"], page["total"], page["offset"]) == ("train", 3, 1)
    assert [TaskInstance.model_validate(task) for task in page["tasks"]] == [Ledger().task("train/1")]
    assert client.get("/tasks/train/2").json()["id"] == "train/2"
    assert client.get("/seeds/5").json()["id"] == "seed/5"


def test_the_agents_endpoint_offers_no_control(ledger: Served, client: httpx.Client) -> None:
    info = client.post("/episodes", json={"task_id": "train/0"}).json()

    async def attempt(mode: str) -> None:
        async with Client(ledger.url + info["mcp_path"], mode=mode) as agent:
            names = {tool.name for tool in (await agent.list_tools()).tools}
            assert names == {spec["name"] for spec in info["tools"]}
            control = Control(agent)
            asked = ResultsRequest(
                agent="a", model="a", sampling=Sampling(), max_turns=1, seed=0, trials=1, tasks=(), trajectories=()
            )
            refused = (control.episode(), control.delete(), control.environment(), control.record(()))
            for awaited in (*refused, control.results(asked)):
                with pytest.raises(Exception, match="Method not found"):
                    await awaited

    for mode in ("auto", "legacy"):
        asyncio.run(attempt(mode))


GET_REFUSED = {
    "/nope": (404, "unknown_path", "nothing is served at '/nope': see '/openapi.json'"),
    "/episodes": (405, "bad_method", "GET is not served at '/episodes': use POST"),
    "/episodes/nobody": (404, "unknown_episode", "unknown episode 'nobody': create one first"),
    "/tasks": (422, "invalid", "split: Field required"),
    "/tasks?split=tset": (404, "unknown_split", "unknown split 'tset': use one of 'test', 'train'"),
    "/tasks?split=train&limit=0": (422, "invalid", "limit: Input should be greater than or equal to 1, not '0'"),
    "/tasks?split=train&page=2": (422, "invalid", "page: Extra inputs are not permitted, not '2'"),
    "/tasks/zz": (404, "unknown_task", "unknown task 'zz' of environment 'ledger'"),
    "/seeds/one": (422, "invalid", "seed: give a whole number"),
}
POST_REFUSED = {
    b'{"seed": -1}': (404, "unknown_task", "seed -1 is negative: use 0 or more"),
    b'{"split": "test", "index": 1}': (404, "unknown_task", "index 1 is outside split 'test': it has 1 tasks"),
    b'{"split": "test"}': (422, "invalid", "body: give 'split' and 'index' together"),
    b'{"seed": 1, "task_id": "a"}': (422, "invalid", "body: give exactly one of 'task_id', 'seed'"),
    b"{}": (422, "invalid", "body: give exactly one of"),
    b'{"sede": 1}': (422, "invalid", "sede: Extra inputs are not permitted, not 1"),
    b"[]": (422, "invalid", "body: give a table (in JSON an object)"),
    b'{"seed":': (400, "bad_json", "the body is not JSON: EOF while parsing"),
    b'{"task_id": "\xff"}': (400, "bad_json", "the body is not JSON"),
    b'{"seed": NaN}': (400, "bad_json", "the body is not JSON"),
    b"[" * 100_000: (400, "bad_json", "the body is not JSON: recursion limit exceeded"),
    b" " * (4 * 1024 * 1024 + 1): (413, "too_large", "the body is longer than 4194304 bytes: send less"),
    b'{"seed": 13}': (500, "environment_failed", "starting task 'seed/13' failed: RuntimeError: thirteen"),
    b'{"seed": 14}': (500, "environment_failed", "starting task 'seed/14' failed: SystemExit: fourteen"),
}
REFUSED = [("GET", path, None, *refused) for path, refused in GET_REFUSED.items()]
REFUSED += [("POST", "/episodes", body, *refused) for body, refused in POST_REFUSED.items()]
REFUSED += [("DELETE", "/episodes/nobody", None, 404, "unknown_episode", "unknown episode 'nobody': create one first")]


@pytest.mark.parametrize(("method", "path", "body", "status", "code", "message"), REFUSED, ids=range(len(REFUSED)))
def test_a_bad_request_gets_one_clear_line(
    method: str, path: str, body: bytes | None, status: int, code: str, message: str, client: httpx.Client
) -> None:
    got_status, got_code, got_message = problem(client.request(method, path, content=body, headers=JSON))
    assert (got_status, got_code) == (status, code)
    assert got_message.startswith(message)


def test_a_failing_environment_is_told_apart_from_a_bad_request(client: httpx.Client) -> None:
    episode = "/episodes/" + client.post("/episodes", json={"task_id": "train/0"}).json()["id"]
    crash = client.post(f"{episode}/user_turn", json={"message": "crash"})
    assert problem(crash)[:2] == (500, "environment_failed")
    judged = client.post(f"{episode}/evaluate", json={"messages": [{"role": "user", "content": "crash"}]})
    assert problem(judged) == (500, "environment_failed", "evaluating task 'train/0' failed: KeyError: 'verdict'")
    form = client.post("/episodes", data={"task_id": "train/0"})
    assert problem(form)[:2] == (415, "unsupported_media")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_mcp_client_is_told_that_its_episode_is_gone(mode: str, ledger: Served, client: httpx.Client) -> None:
    info = client.post("/episodes", json={"task_id": "train/0"}).json()

    async def outlive() -> None:
        async with Client(ledger.url + info["mcp_path"], mode=mode) as agent:
            client.delete(f"/episodes/{info['id']}")
            with pytest.raises(MCPError, match=f"episode {info['id']!r} was deleted: create a new one"):
                await agent.call_tool("balance", {"account": "ann"})

    asyncio.run(outlive())
    answer = client.post(info["mcp_path"], json={})
    assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (410, "episode_gone")
    assert client.post("/episodes/nobody/mcp", json={}).status_code == 404
    assert [ep.closes for ep in ledger.environment.episodes if ep.task.id == "train/0" and ep.closes] != []


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_the_mcp_endpoint_takes_posts_only(method: str, client: httpx.Client) -> None:
    info = client.post("/episodes", json={"task_id": "train/0"}).json()
    answer = client.request(method, info["mcp_path"])
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_malformed_mcp_request_is_a_bad_request(client: httpx.Client) -> None:
    path = client.post("/episodes", json={"task_id": "train/0"}).json()["mcp_path"]
    for version in ({}, {"MCP-Protocol-Version": "2026-07-28"}):
        headers = JSON | {"Accept": "application/json, text/event-stream"} | version
        assert client.post(path, content=b"{", headers=headers).status_code == 400
        assert client.post(path, content=b" " * (4 * 1024 * 1024 + 1), headers=headers).status_code == 413


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Host": "evil.example"}, 421, "wrong_host"),
        ({"Host": "evil.example:80"}, 421, "wrong_host"),
        ({"Origin": "http://evil.example"}, 403, "forbidden_origin"),
        ({"Origin": "http://localhost.evil.example"}, 403, "forbidden_origin"),
        ({"Origin": "null"}, 403, "forbidden_origin"),
    ],
)
def test_a_rebound_or_foreign_page_reaches_neither_door(
    headers: dict[str, str], status: int, code: str, client: httpx.Client
) -> None:
    info = client.post("/episodes", json={"task_id": "train/0"}).json()
    for method, path in (("GET", "/health"), ("POST", "/episodes"), ("POST", info["mcp_path"])):
        assert problem(client.request(method, path, headers=headers))[:2] == (status, code)


def test_loopback_names_and_pages_of_this_machine_are_let_in(client: httpx.Client) -> None:
    port = client.base_url.port
    for headers in ({"Host": f"localhost:{port}"}, {"Host": f"[::1]:{port}"}, {"Origin": "http://localhost:5173"}):
        assert client.get("/health", headers=headers).status_code == 200


def test_who_a_server_answers_depends_on_where_it_listens() -> None:
    assert "10.0.0.7" in Gatekeeper.for_address("10.0.0.7").hosts
    assert "[fe80::1]" in Gatekeeper.for_address("fe80::1").hosts
    assert Gatekeeper.for_address("0.0.0.0").hosts == ("*",)
    assert Gatekeeper.for_address("0.0.0.0", ("box.example",)).hosts == (
        "127.0.0.1",
        "localhost",
        "[::1]",
        "box.example",
    )


def test_with_a_token_the_control_plane_is_closed_to_those_without() -> None:
    with serving(Ledger(), HttpConfig(gatekeeper=Gatekeeper(token="s3cret"))) as served:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}):
            refused = httpx.post(f"{served.url}/episodes", json={"task_id": "train/0"}, headers=headers)
            assert problem(refused)[:2] == (401, "unauthorized")
        for op in OPERATIONS:
            path = op.path.replace("{id}", "some").replace("{task_id:path}", "train/0").replace("{seed}", "1")
            if not op.public:
                assert problem(httpx.request(op.method, served.url + path))[:2] == (401, "unauthorized")
        allowed = {"Authorization": "Bearer s3cret"}
        info = httpx.post(f"{served.url}/episodes", json={"task_id": "train/0"}, headers=allowed).json()
        assert httpx.get(f"{served.url}/health").status_code == 200

        async def play() -> None:
            async with Client(served.url + info["mcp_path"]) as agent:
                assert not (await agent.call_tool("balance", {"account": "ann"})).is_error

        asyncio.run(play())


def test_an_idle_episode_expires_over_http() -> None:
    clock = Clock()
    ledger = Ledger()
    with serving(ledger, HttpConfig(limits=Limits(idle_timeout_s=60), clock=clock)) as served:
        info = httpx.post(f"{served.url}/episodes", json={"task_id": "train/0"}).json()
        assert info["idle_timeout_s"] == 60
        clock.now = 59
        assert httpx.get(f"{served.url}/episodes/{info['id']}").status_code == 200
        clock.now = 119
        expired = f"episode {info['id']!r} expired after 60 s without a call: create a new one"
        assert problem(httpx.get(f"{served.url}/episodes/{info['id']}")) == (410, "episode_gone", expired)
        assert httpx.post(served.url + info["mcp_path"], json={}).json()["error"]["message"] == expired


async def test_expired_episodes_are_closed_and_used_ones_kept() -> None:
    clock = Clock()
    table = EpisodeTable(Ledger(), Limits(idle_timeout_s=60), clock)
    idle, used = await table.create(TaskChoice(seed=1)), await table.create(TaskChoice(seed=2))
    clock.now = 50
    table.get(used.id)
    clock.now = 60
    assert (await table.sweep(), len(table)) == (1, 1)
    assert [episode.closes for episode in table.environment.episodes] == [1, 0]
    with pytest.raises(ControlError, match="expired after 60 s"):
        table.get(idle.id)
    with table.using(used.id):
        clock.now = 500
    assert await table.sweep() == 0
    await table.close()
    assert [episode.closes for episode in table.environment.episodes] == [1, 1]


async def test_a_full_table_gives_up_an_idle_episode_but_never_a_busy_one() -> None:
    clock = Clock()
    table = EpisodeTable(Ledger(), Limits(max_episodes=2, spare_s=10), clock)
    first, second = await table.create(TaskChoice(seed=1)), await table.create(TaskChoice(seed=2))
    with pytest.raises(ControlError, match="2 episodes are live, the most this server holds") as refused:
        await table.create(TaskChoice(seed=3))
    assert refused.value.code is ProblemCode.FULL
    clock.now = 5
    table.get(first.id)
    clock.now = 12
    third = await table.create(TaskChoice(seed=3))
    with pytest.raises(ControlError, match="made room for another after 10 s without a call"):
        table.get(second.id)
    assert [table.get(live.id) for live in (first, third)] == [first, third]


def test_every_episode_is_closed_when_the_server_stops() -> None:
    ledger = Ledger()
    with serving(ledger) as served:
        for _ in range(3):
            httpx.post(f"{served.url}/episodes", json={"task_id": "train/0"})
    assert [episode.closes for episode in ledger.episodes] == [1, 1, 1]


def test_the_openapi_document_describes_every_operation_and_resolves(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    routed = {(op.method, op.path.replace(":path}", "}")) for op in OPERATIONS}
    assert described == routed | {("POST", "/episodes/{id}/mcp")}
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    ids = [op["operationId"] for methods in document["paths"].values() for op in methods.values()]
    assert len(set(ids)) == len(ids)


def test_answers_are_what_the_openapi_document_says(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    info = client.post("/episodes", json={"task_id": "train/0"}).json()
    messages = [{"role": "user", "content": "hi"}]
    asked: list[tuple[str, str, str, Any]] = [
        ("get", "/health", "/health", None),
        ("get", "/environment", "/environment", None),
        ("get", "/tasks", "/tasks?split=train", None),
        ("get", "/tasks", "/tasks?split=zz", None),
        ("get", "/tasks/{task_id}", "/tasks/train/0", None),
        ("get", "/seeds/{seed}", "/seeds/3", None),
        ("get", "/seeds/{seed}", "/seeds/x", None),
        ("post", "/episodes", "/episodes", {"seed": 3}),
        ("post", "/episodes", "/episodes", {"seed": "x"}),
        ("get", "/episodes/{id}", f"/episodes/{info['id']}", None),
        ("post", "/episodes/{id}/user_turn", f"/episodes/{info['id']}/user_turn", {"message": "hi"}),
        ("post", "/episodes/{id}/evaluate", f"/episodes/{info['id']}/evaluate", {"messages": messages}),
        ("post", "/episodes/{id}/record", f"/episodes/{info['id']}/record", {"messages": messages}),
        ("post", "/results", "/results", {}),
        ("delete", "/episodes/{id}", f"/episodes/{info['id']}", None),
        ("delete", "/episodes/{id}", f"/episodes/{info['id']}", None),
    ]
    for method, template, path, body in asked:
        answer = client.request(method, path, json=body)
        described = document["paths"][template][method]["responses"][str(answer.status_code)]
        if "content" not in described:
            assert answer.content == b""
            continue
        schema = described["content"]["application/json"]["schema"] | {"components": document["components"]}
        Draft202012Validator(schema).validate(answer.json())


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)
