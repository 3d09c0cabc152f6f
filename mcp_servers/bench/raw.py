"""A client that only writes a prepared tool call and reads the answer's bytes: what it waits for is the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mcp import StdioServerParameters
from mcp.shared.inbound import MCP_METHOD_HEADER, MCP_NAME_HEADER, MCP_PROTOCOL_VERSION_HEADER
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

Ask = Callable[[], Awaitable[bytes]]
"""Makes the call once; gives the answer as it came."""

_CLIENT = {"name": "raw", "version": "1"}
_LONGEST = 16 * 1024 * 1024
"""Bytes of the longest answer that is read."""


@dataclass(frozen=True)
class RawCall:
    """A tool call of one protocol version."""

    tool: str
    arguments: dict[str, Any]
    version: str
    """MCP's protocol version, for example `2026-07-28`."""

    @property
    def handshake(self) -> bool:
        """Whether a connection of this version begins with `initialize`."""
        return self.version in HANDSHAKE_PROTOCOL_VERSIONS

    def body(self) -> bytes:
        """The JSON-RPC request, on one line without its end."""
        params: dict[str, Any] = {"name": self.tool, "arguments": self.arguments}
        if not self.handshake:
            params["_meta"] = {
                PROTOCOL_VERSION_META_KEY: self.version,
                CLIENT_INFO_META_KEY: _CLIENT,
                CLIENT_CAPABILITIES_META_KEY: {},
            }
        return _message(id=1, method="tools/call", params=params)

    def request(self, url: str) -> bytes:
        """The same as an HTTP/1.1 request of the URL."""
        target, body = urlsplit(url), self.body()
        headers = {
            "Host": target.netloc,
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Content-Length": str(len(body)),
            MCP_PROTOCOL_VERSION_HEADER: self.version,
        }
        if not self.handshake:
            headers |= {MCP_METHOD_HEADER: "tools/call", MCP_NAME_HEADER: self.tool}
        lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def raw_stdio(server: StdioServerParameters, call: RawCall) -> AsyncIterator[Ask]:
    """The call to a server that is started for it, over its standard input and output."""
    process = await asyncio.create_subprocess_exec(
        server.command,
        *server.args,
        env=server.env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    reader, writer = process.stdout, process.stdin
    try:
        if call.handshake:
            params = {"protocolVersion": call.version, "capabilities": {}, "clientInfo": _CLIENT}
            writer.write(_message(id=0, method="initialize", params=params) + b"\n")
            _answered(await reader.readline())
            writer.write(_message(method="notifications/initialized") + b"\n")
        line = call.body() + b"\n"

        async def ask() -> bytes:
            writer.write(line)
            return _answered(await reader.readline())

        yield ask
    finally:
        writer.close()
        await process.wait()


@asynccontextmanager
async def raw_http(url: str, call: RawCall) -> AsyncIterator[Ask]:
    """The call to the MCP endpoint at `url`, over one connection that is kept; sessions are not spoken."""
    target = urlsplit(url)
    reader, writer = await asyncio.open_connection(target.hostname, target.port, limit=_LONGEST)
    request = call.request(url)

    async def ask() -> bytes:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        return _answered(await reader.readexactly(int(length)))

    try:
        yield ask
    finally:
        writer.close()
        await writer.wait_closed()


def _message(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **fields}).encode()


def _answered(answer: bytes) -> bytes:
    if b'"result"' not in answer:
        raise RuntimeError(f"the server answered {answer[:500]!r} where a result was due")
    return answer
