"""Who may ask over HTTP: the Host and Origin checks against DNS rebinding, and the control plane's token."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from mcp_servers.wire import ControlError, ProblemCode

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Names under which a server on this machine is asked for."""


@dataclass(frozen=True)
class Gatekeeper:
    """Refuses requests that a browser page was tricked into sending, and control requests without the token."""

    hosts: tuple[str, ...] = LOOPBACK
    """Host names, without port, under which the server may be asked for; `*` allows any."""
    token: str | None = None
    """What control requests must carry as `Authorization: Bearer <token>`; None asks for nothing."""

    @classmethod
    def for_address(cls, host: str, allowed: tuple[str, ...] = (), token: str | None = None) -> Gatekeeper:
        """The gatekeeper of a server that listens on `host`.

        A server on a loopback address answers to loopback names and `allowed`; one on an address of the network also
        to that address; one on all addresses to any name, unless `allowed` says which.
        """
        name = f"[{host}]" if ":" in host else host.lower()
        if host in ("0.0.0.0", "::", ""):
            return cls((*LOOPBACK, *allowed) if allowed else ("*",), token)
        return cls((*dict.fromkeys((*LOOPBACK, name, *(other.lower() for other in allowed))),), token)

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """The request names this server, and comes from no page of another site (MCP's transport security).

        Raises:
            ControlError: it names another host, or has another site's Origin.
        """
        host = headers.get("host", "")
        if "*" not in self.hosts and _name(host) not in self.hosts:
            message = (
                f"Host {host!r} is not this server: ask for {_listed(self.hosts)}, or serve with it as an allowed host"
            )
            raise ControlError(ProblemCode.WRONG_HOST, message)
        origin = headers.get("origin")
        if origin is None:
            return
        site = _name(origin.partition("://")[2])
        if site != _name(host) and site not in self.hosts:
            message = (
                f"Origin {origin!r} may not ask this server: only programs, and pages of {_listed(self.hosts)}, may"
            )
            raise ControlError(ProblemCode.FORBIDDEN_ORIGIN, message)

    def check_token(self, headers: Mapping[str, str]) -> None:
        """The request may use the control plane.

        Raises:
            ControlError: the token is missing or wrong.
        """
        if self.token is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            message = "the control plane needs its token: send it as 'Authorization: Bearer <token>'"
            raise ControlError(ProblemCode.UNAUTHORIZED, message)


def _name(host: str) -> str:
    """`host` without its port, in lower case; IPv6 addresses keep their brackets."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()


def _listed(hosts: tuple[str, ...]) -> str:
    return " or ".join(repr(host) for host in hosts)
