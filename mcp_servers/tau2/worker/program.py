"""What the worker loads for τ²-bench: one domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import standins

if TYPE_CHECKING:
    from upstream import Domain


def load(domain: str) -> Domain:
    """The domain, by upstream's name."""
    standins.install()
    from upstream import Domain

    return Domain(domain)
