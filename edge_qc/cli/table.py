"""How the commands print: rich tables and trees on a terminal, plain text elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def print_tree(title: str, document: Mapping[str, Any]) -> None:
    """Print a nested document as a tree of keys and values."""
    from rich.console import Console
    from rich.markup import escape
    from rich.tree import Tree

    def grow(tree: Tree, value: Any) -> None:
        items = value.items() if isinstance(value, Mapping) else enumerate(value, 1)
        for key, entry in items:
            if isinstance(entry, Mapping) or (
                isinstance(entry, list) and any(isinstance(x, Mapping) for x in entry)
            ):
                grow(tree.add(f"[bold]{escape(str(key))}[/bold]"), entry)
            else:
                shown = ", ".join(map(str, entry)) if isinstance(entry, list) else str(entry)
                tree.add(f"{escape(str(key))}: {escape(shown)}")

    tree = Tree(f"[bold]{escape(title)}[/bold]")
    grow(tree, document)
    Console().print(tree)
