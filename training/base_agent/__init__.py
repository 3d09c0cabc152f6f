"""`helpdesk-1m`, the embedded base agent: its recipe and its weights."""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("helpdesk-1m")
"""The shipped model folder: weights, tokenizer, chat template and the recipe's log."""
