"""Type stubs of TensorRT's real bindings, repaired so that mypy takes them.

pybind11-stubgen writes what the bindings' docstrings say, and some of that is no Python: parameters
named ``in``, parameters without a default behind one with, ``...`` where a type was unknown, a
module-level ``bool`` that hides the type, ``None`` as the default of what is not optional. Nothing
made here is committed: the bindings are NVIDIA's.
"""

from __future__ import annotations

import ast
import re

_HEADER = "import builtins\nimport typing\n"
_FOOTER = "__version__: str\n"
_BUFFER = "def __buffer__(self, flags: int) -> memoryview: ..."


def repaired(stub: str) -> str:
    """The stub of ``tensorrt_bindings.tensorrt`` as a stub of ``tensorrt``."""
    stub = re.sub(r"(?<=[(, ])in(?=: )", "in_", stub)
    lines = [_with_defaults(line) if "def " in line else line for line in stub.splitlines()]
    tree = _Repair().visit(ast.parse("\n".join(lines)))
    return _HEADER + ast.unparse(ast.fix_missing_locations(tree)) + "\n" + _FOOTER


def _with_defaults(line: str) -> str:
    """Every parameter behind the first one with a default gets one too."""
    head, equals, rest = line.partition(" = ")
    return head + equals + re.sub(r"(, \w+: [\w.]+)(?=[,)])", r"\1 = ...", rest)


class _Repair(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        arguments = node.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if argument.annotation is not None:
                argument.annotation = _typed(argument.annotation)
        defaults = arguments.defaults
        if defaults:
            for argument, default in zip(arguments.args[-len(defaults) :], defaults, strict=True):
                if ast.unparse(default) == "None" and argument.annotation is not None:
                    argument.annotation = ast.parse(
                        f"{ast.unparse(argument.annotation)} | None", mode="eval"
                    ).body
        if node.returns is not None:
            node.returns = _typed(node.returns)
        node.body = [ast.Expr(ast.Constant(...))]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.annotation = _typed(node.annotation)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        if node.name == "IHostMemory":
            node.body += ast.parse(_BUFFER).body
        if node.name == "Logger":
            # The package's __init__ makes the one the other.
            node.body = [
                ast.parse("Severity = ILogger.Severity").body[0]
                if isinstance(part, ast.ClassDef)
                else part
                for part in node.body
            ]
        return node


class _Typed(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.parse("typing.Any", mode="eval").body if node.value is ... else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.parse("builtins.bool", mode="eval").body if node.id == "bool" else node


def _typed(annotation: ast.expr) -> ast.expr:
    typed = _Typed().visit(annotation)
    assert isinstance(typed, ast.expr)
    return typed
