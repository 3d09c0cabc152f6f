"""One TLS context for all HTTP clients."""

from __future__ import annotations

import ssl
from functools import cache


@cache
def tls_context() -> ssl.SSLContext:
    """The context, made once: reading the certificate store takes longer than an episode."""
    import httpx2

    return httpx2.create_ssl_context()
