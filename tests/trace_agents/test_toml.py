"""What is written as TOML is read back equal."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trace_agents.toml import toml

TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


@given(VALUES)
def test_every_json_value_but_null_comes_back(value: Any) -> None:
    assert tomllib.loads(f"value = {toml(value)}")["value"] == value
