"""The ledger, served for a whole test file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from environment_serving import Served, serving
from ledger_environment import Ledger


@pytest.fixture(scope="module")
def ledger() -> Iterator[Served]:
    """The ledger behind a URL."""
    with serving(Ledger()) as served:
        yield served
