"""Reads the marks of tests from their source, without importing them."""

import ast
from collections.abc import Iterator
from typing import NamedTuple


class MarkedTest(NamedTuple):
    """A test function that is marked with cases, on itself or on its parameters."""

    where: str
    name: str
    cases: list[str]
    clauses: list[str]


def marks(tree: ast.AST, name: str) -> list[str]:
    """Returns what the marks of a name say, wherever in the tree they are."""
    return [
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(f"mark.{name}")
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    ]


def marked_tests(source: str, where: str) -> Iterator[MarkedTest]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        cases = [case for decorator in node.decorator_list for case in marks(decorator, "case")]
        clauses = [clause for decorator in node.decorator_list for clause in marks(decorator, "clause")]
        if cases:
            yield MarkedTest(f"{where}:{node.lineno}", node.name, cases, clauses)
