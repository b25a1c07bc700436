"""Random mutants of real source code: one small change each, as mistakes are made."""

from __future__ import annotations

import ast
import difflib
import random

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final


_COMPARED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_SMALL: Final = 8
"""Larger numbers are sizes and limits, of which one more or less is as good."""
_LOGS: Final = ("_log", "log", "warnings")


@dataclass(frozen=True)
class SourceMutant:
    """A source file with one change."""

    path: Path
    line: int
    original: str
    text: str
    statement: range
    """The lines of the statement that is changed, or of its head if it has a body."""
    function: str
    """The name of the function that it is in."""

    @property
    def name(self) -> str:
        """The file and the line."""
        return f"{self.path}:{self.line}"

    @property
    def change(self) -> tuple[str, str]:
        """The lines that go and those that come, without the space around them."""
        lines = [one for one in self._diff() if not one.startswith(("---", "+++", "@@"))]
        old = [one[1:].strip() for one in lines if one.startswith("-")]
        new = [one[1:].strip() for one in lines if one.startswith("+")]
        return "\n".join(old), "\n".join(new)

    @property
    def diff(self) -> str:
        """The change, for a reader."""
        return "\n".join([f"{self.name}", *list(self._diff())[2:]])

    def _diff(self) -> Iterator[str]:
        before, after = self.original.splitlines(), self.text.splitlines()
        return difflib.unified_diff(before, after, lineterm="", n=2)


def mutants_of(path: Path) -> list[SourceMutant]:
    """Return all mutants of a file."""
    original = path.read_text(encoding="utf-8")
    lines = original.encode().splitlines(keepends=True)  # columns count bytes
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found: dict[str, SourceMutant] = {}
    raw = original.encode()
    tree = ast.parse(original)
    statements = [_head(node) for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    for function, node, new in _changes(tree):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        text = (raw[:start] + new.encode() + raw[end:]).decode()
        around = max((one for one in statements if node.lineno in one), key=lambda one: one.start)
        mutant = SourceMutant(path, node.lineno, original, text, around, function)
        found.setdefault(text, mutant)
    return list(found.values())


def _head(statement: ast.stmt) -> range:
    """Return the lines of a statement, without those of the statements in it."""
    end = statement.end_lineno or statement.lineno
    inner = [one.lineno for one in ast.walk(statement) if isinstance(one, ast.stmt)]
    below = [line for line in inner if line > statement.lineno]
    return range(statement.lineno, min(below, default=end + 1))


def sample(paths: list[Path], count: int, seed: int) -> list[SourceMutant]:
    """Return some mutants of these files, the same ones for the same seed."""
    everything = [one for path in sorted(paths) for one in mutants_of(path)]
    chosen = random.Random(seed)  # noqa: S311  # it is to be the same the next time
    return chosen.sample(everything, min(count, len(everything)))


_Change = tuple[ast.expr | ast.stmt, str]


def _changes(tree: ast.Module) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
    """Yield the name of each function, what may be replaced in it, and by what."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                yield from ((node.name, *change) for change in _in_statement(statement))


def _in_statement(statement: ast.stmt) -> Iterator[_Change]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return  # it has its own turn
    yield from _of_statement(statement)
    for field, value in ast.iter_fields(statement):
        if field in {"annotation", "type_comment"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.stmt):
                yield from _in_statement(child)
            elif isinstance(child, ast.expr):
                yield from _in_expression(child)
            elif isinstance(child, ast.ExceptHandler | ast.match_case):
                for inner in child.body:
                    yield from _in_statement(inner)
            elif isinstance(child, ast.withitem):
                yield from _in_expression(child.context_expr)


def _of_statement(statement: ast.stmt) -> Iterator[_Change]:
    match statement:
        case ast.Expr(ast.Call() | ast.Await() as value) if not _is_log(value):
            yield statement, "pass"
        case ast.AugAssign(target, operator, value) if type(operator) in _COMPUTED:
            other = ast.AugAssign(target, _COMPUTED[type(operator)](), value)
            yield statement, ast.unparse(other)
            yield statement, "pass"
        case ast.Assign(targets=[ast.Attribute()]):
            yield statement, "pass"
        case ast.Return(ast.expr() as value) if not isinstance(value, ast.Constant):
            yield statement, "return None"
        case ast.Raise():
            yield statement, "pass"
        case ast.Break():
            yield statement, "continue"
        case ast.Continue():
            yield statement, "break"
        case ast.If(test=test) | ast.While(test=test) if not isinstance(test, ast.Constant):
            yield test, f"not ({ast.unparse(test)})"
        case _:
            pass


def _in_expression(expression: ast.expr) -> Iterator[_Change]:
    if isinstance(expression, ast.JoinedStr):
        return  # texts are no behaviour
    yield from _of_expression(expression)
    for child in ast.iter_child_nodes(expression):
        if isinstance(child, ast.expr):
            yield from _in_expression(child)
        elif isinstance(child, ast.keyword) and child.arg != "strict":  # it states what is so
            yield from _in_expression(child.value)
        elif isinstance(child, ast.comprehension):
            yield from _in_expression(child.iter)
            for test in child.ifs:
                yield test, "True"
                yield from _in_expression(test)


def _of_expression(expression: ast.expr) -> Iterator[_Change]:
    match expression:
        case ast.Compare(left, [operator], right) if type(operator) in _COMPARED:
            other = ast.Compare(left, [_COMPARED[type(operator)]()], right)
            yield expression, f"({ast.unparse(other)})"
        case ast.BinOp(left, operator, right) if type(operator) in _COMPUTED:
            changed = ast.BinOp(left, _COMPUTED[type(operator)](), right)
            yield expression, f"({ast.unparse(changed)})"
        case ast.BoolOp(operator, values):
            turned = ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
            yield expression, f"({ast.unparse(turned)})"
        case ast.UnaryOp(ast.Not(), operand):
            yield expression, f"({ast.unparse(operand)})"
        case ast.IfExp(test, body, orelse):
            yield expression, f"({ast.unparse(ast.IfExp(test, orelse, body))})"
        case ast.Constant(bool() as value):
            yield expression, str(not value)
        case ast.Constant(int() as value) if value <= _SMALL:
            yield expression, str(value + 1)
        case _:
            pass


def _is_log(value: ast.expr) -> bool:
    return ast.unparse(value).startswith(tuple(f"{name}." for name in _LOGS))
