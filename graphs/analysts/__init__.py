"""Analysts that read: a chat model (`chat`), or whoever answers a hand-off (`handoff`), behind the `Analyst` seam."""
