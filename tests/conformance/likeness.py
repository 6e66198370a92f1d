"""Does the stand-in for TensorRT have the signatures of the real bindings?

For every class of the stand-in a protocol is written that holds, of what the stand-in defines, the
real signatures; mypy then says whether the stand-in fits it. So a test that passes against the
stand-in has called nothing that the real bindings would not take.
"""

from __future__ import annotations

import ast
from pathlib import Path

_HEADER = """\
from __future__ import annotations
import builtins, collections.abc, typing, typing_extensions
import tensorrt
from tensorrt import *
"""
_IMPLICIT = {"__buffer__"}
"""What a stand-in has to define because the real ones have it in C."""


def protocols(fake: Path, stub: Path) -> str:
    """A module that mypy takes exactly where the stand-in fits the stub.

    Raises AssertionError where the stand-in has public names that the stub has not.
    """
    real = {node.name: node for node in _classes(stub)}
    parts = [_HEADER]
    for node in _classes(fake):
        if node.name == "Fake":
            continue
        assert node.name in real, f"the real bindings have no {node.name}"
        _check_members(node, real[node.name], node.name)
        parts.append(_protocol(node, real[node.name]))
    return "\n".join(parts)


def _classes(file: Path) -> list[ast.ClassDef]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]


def _members(node: ast.ClassDef) -> dict[str, ast.stmt]:
    """By name: functions, properties, annotated and assigned names; the first of overloads."""
    found: dict[str, ast.stmt] = {}
    for part in node.body:
        if isinstance(part, ast.FunctionDef | ast.ClassDef):
            found.setdefault(part.name, part)
        elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            found.setdefault(part.target.id, part)
        elif isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
            found.setdefault(part.targets[0].id, part)
    return found


def _is_public(name: str) -> bool:
    return not name.startswith("_") or (name.endswith("__") and name not in {"__init__"})


def _check_members(fake: ast.ClassDef, real: ast.ClassDef, path: str) -> None:
    known = _members(real)
    for name, part in _members(fake).items():
        if not _is_public(name):
            continue
        assert name in known, f"the real bindings have no {path}.{name}"
        inner = known[name]
        if isinstance(part, ast.ClassDef) and isinstance(inner, ast.ClassDef):
            _check_members(part, inner, f"{path}.{name}")


def _protocol(fake: ast.ClassDef, real: ast.ClassDef) -> str:
    known = _members(real)
    lines = [f"class {fake.name}_like(typing.Protocol):"]
    for name, part in _members(fake).items():
        signature = known.get(name)
        if isinstance(signature, ast.FunctionDef) and _is_public(name) and name not in _IMPLICIT:
            signature.decorator_list = [
                decorator
                for decorator in signature.decorator_list
                if ast.unparse(decorator) in {"property", "staticmethod"}
            ]
            setter = _setter(real, name) if _setter(fake, name) is not None else None
            for function in (signature, setter):
                if function is not None:
                    lines += ["    " + line for line in ast.unparse(function).splitlines()]
        elif isinstance(part, ast.AnnAssign) and isinstance(signature, ast.AnnAssign):
            lines.append("    " + ast.unparse(signature))
    lines += ["    pass", f"def _(x: tensorrt.{fake.name}) -> {fake.name}_like: return x"]
    if isinstance(init := known.get("__init__"), ast.FunctionDef) and "__init__" in _members(fake):
        parameters = ast.unparse(init.args).removeprefix("self").removeprefix(", ")
        names = ", ".join(argument.arg for argument in init.args.args[1:])
        lines.append(f"def _({parameters}) -> None: tensorrt.{fake.name}({names})")
    return "\n".join(lines) + "\n"


def _setter(node: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and f"{name}.setter" in map(
            ast.unparse, part.decorator_list
        ):
            return part
    return None
