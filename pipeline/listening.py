"""What concerns every server here that listens: who can reach it, and how it is written in a URL."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def in_url(host: str) -> str:
    """An address of IPv6 stands in brackets there."""
    return f"[{host}]" if ":" in host else host
