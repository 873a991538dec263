"""The host names that the service answers to.

A web page can give its own name the address 127.0.0.1 (DNS rebinding), and its browser then lets it read what
the service answers: the name in the request tells.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from ipaddress import ip_address
from typing import Any

from ssmrec.errors import ConfigError
from ssmrec.serving.middleware import Receive, Send, refuse

LOCAL = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine to itself; no web page can have one of them."""
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]*]+)(:\d*)?")


def hosts_of(address: str, host: str, allowed: Iterable[str]) -> frozenset[str] | None:
    """The names that are answered to, in lower case and without a port; None for any.

    Args:
        address: the IP address that the service listens on. host: as it was named.
        allowed: further names; `*` for any. Without them any is, but on an address of this machine alone.

    Raises:
        ConfigError: one of `allowed` is not the name of a host.
    """
    allowed = list(allowed)
    names = {one: _bare(f"[{one}]" if one.count(":") > 1 else one) for one in (host, *allowed)}
    if bad := next((one for one in allowed if one != "*" and not names[one]), None):
        raise ConfigError(f"--allow-host {bad}: must be a name, such as shop.example, or * for any")
    place = ip_address(address.partition("%")[0])
    place = getattr(place, "ipv4_mapped", None) or place
    if "*" in allowed or not (allowed or place.is_loopback):
        return None
    return frozenset(LOCAL) | {name for name in names.values() if name}


def _bare(host: str) -> str:
    """The name in a Host header, without its port; empty where it is none."""
    found = _HOST.fullmatch(host.strip().lower())
    return found[1].rstrip(".") if found else ""


class Named:
    """Answers 421 to a request for another host than `hosts`, lower case and without a port."""

    def __init__(self, app: Any, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        # Browsers always name the host; a health check by HTTP/1.0 need not.
        asked = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if all(_bare(one) in self.hosts for one in asked):
            return await self.app(scope, receive, send)
        told = "the service does not answer for this host; start it with --allow-host NAME if it is right"
        return await refuse(send, 421, told)
