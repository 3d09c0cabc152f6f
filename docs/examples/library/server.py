"""A lending library's MCP server, as one might find it: it keeps its books in a JSON file and knows of no benchmark."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

server = MCPServer("library", instructions="You are at the desk of a lending library. Look things up before you act.")
READS = ToolAnnotations(read_only_hint=True)

Card = Annotated[str, Field(description="Number of a member's card, such as 'C-104'.")]
Copy = Annotated[str, Field(description="Number on a book's spine, such as 'B-12'.")]


class Book(BaseModel):
    """A copy of a book."""

    copy_id: str
    title: str
    lent_to: str | None
    """Card of the member who has it."""


class Member(BaseModel):
    """A member, with what he has borrowed."""

    card: str
    name: str
    fees: float
    """Unpaid fees in euros."""
    borrowed: list[str]


class Shelves:
    """The file with books and members."""

    path = Path("library.json")

    @classmethod
    def read(cls) -> dict[str, Any]:
        """Everything."""
        return dict(json.loads(cls.path.read_text(encoding="utf-8")))

    @classmethod
    def book(cls, data: dict[str, Any], copy_id: str) -> dict[str, Any]:
        """One copy."""
        for book in data["books"]:
            if book["copy_id"] == copy_id:
                return dict(book)
        raise ToolError(f"There is no copy {copy_id!r}.")

    @classmethod
    def put(cls, data: dict[str, Any], copy_id: str, card: str | None) -> Book:
        """The copy lent to `card`, or back on its shelf."""
        books = [{**book, "lent_to": card} if book["copy_id"] == copy_id else book for book in data["books"]]
        cls.path.write_text(json.dumps({**data, "books": books}), encoding="utf-8")
        return Book(**{**cls.book(data, copy_id), "lent_to": card})


@server.tool(annotations=READS)
def find_books(title: Annotated[str, Field(description="A part of the title.")]) -> list[Book]:
    """Copies of the books whose title has these words."""
    return [Book(**book) for book in Shelves.read()["books"] if title.lower() in book["title"].lower()]


@server.tool(annotations=READS)
def show_member(card: Card) -> Member:
    """A member: unpaid fees, and the copies that are borrowed."""
    data = Shelves.read()
    for member in data["members"]:
        if member["card"] == card:
            return Member(**member, borrowed=[book["copy_id"] for book in data["books"] if book["lent_to"] == card])
    raise ToolError(f"There is no card {card!r}.")


@server.tool()
def lend(copy_id: Copy, card: Card) -> Book:
    """Lend a copy to a member."""
    data = Shelves.read()
    show_member(card)
    if Shelves.book(data, copy_id)["lent_to"] is not None:
        raise ToolError(f"Copy {copy_id!r} is lent already.")
    return Shelves.put(data, copy_id, card)


@server.tool()
def take_back(copy_id: Copy) -> Book:
    """Put a copy back on its shelf."""
    data = Shelves.read()
    Shelves.book(data, copy_id)
    return Shelves.put(data, copy_id, None)


@server.tool()
def close_library() -> str:
    """Throw everything away."""
    Shelves.path.write_text('{"books": [], "members": []}', encoding="utf-8")
    return "Closed for good."


@server.resource("library://books", mime_type="application/json")
def books() -> str:
    """Every copy, and who has it."""
    return json.dumps(Shelves.read()["books"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Shelves.path)
    Shelves.path = parser.parse_args().data
    server.run()
