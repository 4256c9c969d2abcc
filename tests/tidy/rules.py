"""The rules of architecture.md and conventions.md that a syntax tree can show: functions from module to violations.

A rule never reads a file and knows nothing of pytest, so that a planted violation proves it on a few lines of source.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 49  # 50 fails
MAX_PARAMETERS = 5
MAX_ALIKE_POSITIONAL = 2  # parameters of one type; the third is keyword-only

# First part of the name below iscsi_target -> layer. A new part gets its layer here, or the test fails.
LAYERS = {
    "wire": 0,
    "scsi": 1,
    "iscsi": 1,
    "initiator": 1,
    "faults": 2,
    "target": 2,
    "storage": 3,
    "config": 3,
    "discovery": 3,
    "server": 3,
    "client": 3,
    "cli": 4,
    "__main__": 4,
    "": 4,  # the package itself: what an embedding program imports
}
# The packages of scsi, from the ground up; what lies in scsi itself is the ground, and imports none of them.
SCSI_FLOORS = ("", "layouts", "reservations", "state", "commands", "unit")
PURE_LAYERS = 2  # up to here a module computes and nothing else
# Name services are a layer of their own, machines and all; these of its modules have sockets.
DISCOVERY_DRIVERS = {
    "iscsi_target/discovery/isns/delivery.py",
    "iscsi_target/discovery/isns/registrar.py",
    "iscsi_target/discovery/isns/service.py",
    "iscsi_target/discovery/isns/status_port.py",
    "iscsi_target/discovery/slp/responder.py",
    "iscsi_target/discovery/tcp_peer.py",
}
SIBLINGS = ({"scsi", "iscsi"}, {"scsi", "initiator"})
IMPURE_MODULES = {"asyncio", "socket", "time", "random", "secrets", "os", "logging", "threading"}

# `except Exception` stands in the outermost loop of a driver, and nowhere else: module -> how many such loops it has.
# The driver of the machine has three: a call into the machine, an operation and a save that run on their own. The
# control socket has one: the task of a client. So has a medium: an operation on a thread. So has a socket of datagrams.
OUTERMOST_LOOPS = {
    "iscsi_target/server/driver.py": 3,
    "iscsi_target/storage/medium.py": 2,
    "iscsi_target/server/control.py": 1,
    "iscsi_target/server/server.py": 1,
    "iscsi_target/discovery/isns/registrar.py": 1,
    "iscsi_target/discovery/isns/service.py": 3,
    "iscsi_target/discovery/isns/status_port.py": 1,
    "iscsi_target/discovery/slp/responder.py": 1,
}
ANY_ALLOWED = {"iscsi_target/wire/layout.py"}

# SBC4r22 is for what SBC-3 does not have yet, SBC2r16 and SPC2r20 for what has been dropped since.
PINNED_REVISIONS = {"SAM": "SAM5r21", "SPC": "SPC4r37", "SBC": "SBC3r36"}
_CLAUSE = re.compile(r"(RFC\d{4}|SAM5r21|SPC4r37|SBC3r36|SBC4r22|SBC2r16|SPC2r20) (?:Appendix )?[A-Z0-9]+(?:\.\d+)*")


class Violation(NamedTuple):
    """Where a rule is broken, and how."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Module:
    """One source file.

    path      from the root of the checkout, with slashes
    source    its text
    """

    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.path)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        return tuple(ast.walk(self.tree))

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.path.removesuffix(".py").removesuffix("/__init__").split("/"))

    @property
    def unit(self) -> str | None:
        """The first part below the package, "" for the package itself, None outside the package."""
        if self.parts[0] != "iscsi_target":
            return None
        return self.parts[1] if len(self.parts) > 1 else ""

    @property
    def is_pure(self) -> bool:
        if self.unit == "discovery":
            return self.path not in DISCOVERY_DRIVERS
        return self.unit is not None and LAYERS.get(self.unit, PURE_LAYERS + 1) <= PURE_LAYERS

    def violation(self, node: ast.AST, message: str) -> Violation:
        return Violation(self.path, getattr(node, "lineno", 1), message)


Rule = Callable[[Module], Iterator[Violation]]
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _imports(module: Module) -> Iterator[tuple[ast.AST, str]]:
    for node in module.nodes:
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node, "." * node.level + (node.module or "")


def imports_go_down(module: Module) -> Iterator[Violation]:
    """A module imports its own layer or a lower one; scsi and iscsi never each other."""
    if module.unit is None:
        return
    if module.unit not in LAYERS:
        yield Violation(module.path, 1, f"{module.unit!r} has no layer; give it one in tests/tidy/rules.py")
        return
    for node, name in _imports(module):
        if name.startswith("."):
            yield module.violation(node, "relative import; write the whole name")
        parts = name.split(".")
        if parts[0] != "iscsi_target":
            continue
        other = parts[1] if len(parts) > 1 and parts[1] in LAYERS else ""
        if LAYERS[other] > LAYERS[module.unit]:
            yield module.violation(node, f"imports {name} of a higher layer")
        if module.unit != other and any({module.unit, other} <= pair for pair in SIBLINGS):
            yield module.violation(node, f"imports its sibling {name}")


def _scsi_floor(parts: Sequence[str]) -> int:
    return SCSI_FLOORS.index(parts[2]) if len(parts) > 2 and parts[2] in SCSI_FLOORS else 0


def scsi_imports_go_down(module: Module) -> Iterator[Violation]:
    """A module of scsi imports its own package or one below it."""
    if module.unit != "scsi":
        return
    floor = _scsi_floor(module.parts)
    for node, name in _imports(module):
        if name.startswith("iscsi_target.scsi.") and _scsi_floor(name.split(".")) > floor:
            yield module.violation(node, f"imports {name} of a higher package")


def pure_layers_stay_pure(module: Module) -> Iterator[Violation]:
    """L0 to L2 reach no clock, no randomness, no file and no socket; time and entropy come in as arguments."""
    if module.is_pure:
        for node, name in _imports(module):
            if name.split(".")[0] in IMPURE_MODULES:
                yield module.violation(node, f"imports {name.split('.')[0]}, which layers 0 to 2 may not")


def modules_are_short(module: Module) -> Iterator[Violation]:
    """No module is over 500 lines."""
    lines = module.source.count("\n")
    if lines > MAX_MODULE_LINES:
        yield Violation(module.path, lines, f"{lines} lines; {MAX_MODULE_LINES} at most")


def _functions(module: Module) -> Iterator[_Function]:
    yield from (node for node in module.nodes if isinstance(node, _Function))


def functions_are_short(module: Module) -> Iterator[Violation]:
    """A function stays under 50 lines."""
    for function in _functions(module):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > MAX_FUNCTION_LINES:
            yield module.violation(function, f"{function.name} has {lines} lines; {MAX_FUNCTION_LINES} at most")


def _positional(function: _Function) -> list[ast.arg]:
    arguments = [*function.args.posonlyargs, *function.args.args]
    return arguments[1:] if arguments and arguments[0].arg in ("self", "cls") else arguments


def parameters_are_few(module: Module) -> Iterator[Violation]:
    """A function has at most five parameters, self not counted; more want a value of their own.

    A constructor that takes everything by keyword declares fields as a dataclass does, and may have more.
    """
    for function in _functions(module):
        if function.name == "__init__" and not _positional(function):
            continue
        optional = [argument for argument in (function.args.vararg, function.args.kwarg) if argument]
        count = len(_positional(function)) + len(function.args.kwonlyargs) + len(optional)
        if count > MAX_PARAMETERS:
            yield module.violation(function, f"{function.name} has {count} parameters; {MAX_PARAMETERS} at most")


def alike_parameters_are_named(module: Module) -> Iterator[Violation]:
    """After two positional parameters of one type the rest are keyword-only, so that no call can swap them."""
    for function in _functions(module):
        types = [ast.unparse(argument.annotation) for argument in _positional(function) if argument.annotation]
        for alike in sorted({name for name in types if types.count(name) > MAX_ALIKE_POSITIONAL}):
            yield module.violation(
                function,
                f"{function.name} takes {types.count(alike)} positional {alike}; make the third keyword-only",
            )


def public_names_are_documented(module: Module) -> Iterator[Violation]:
    """Every module, public class, function and method has a docstring, unless it is an override or an overload."""
    if not module.source.strip():
        return
    if ast.get_docstring(module.tree) is None:
        yield Violation(module.path, 1, "the module has no docstring")
    yield from _undocumented(module, module.tree)


def _undocumented(module: Module, owner: ast.Module | ast.ClassDef) -> Iterator[Violation]:
    for node in owner.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        exempt = {"overload", "override", "setter"}
        decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
        if ast.get_docstring(node) is None and not decorators & exempt:
            yield module.violation(node, f"{node.name} has no docstring")
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(module, node)


_CATCHES_ALL = {"Exception", "BaseException"}


def _names(node: ast.AST | None) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)} if node else set()


def _catches_all(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or bool(_names(handler.type) & _CATCHES_ALL)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _is_suppress(function: ast.expr) -> bool:
    return ast.unparse(function).rpartition(".")[2] == "suppress"


def only_drivers_catch_everything(module: Module) -> Iterator[Violation]:
    """Nobody catches Exception but the outermost loop of a driver; who puts things right may, and raises it again."""
    found: list[tuple[ast.AST, str]] = []
    for node in module.nodes:
        if isinstance(node, ast.ExceptHandler) and _catches_all(node) and not _raises_again(node):
            found.append((node, f"except {ast.unparse(node.type) if node.type else ''}".strip()))
        elif isinstance(node, ast.Call) and _is_suppress(node.func) and _names(node) & _CATCHES_ALL:
            found.append((node, "suppress(Exception)"))
    for node, what in found[OUTERMOST_LOOPS.get(module.path, 0) :]:
        yield module.violation(node, f"{what} outside a driver's outermost loop; name what can happen")


_LOOPS = re.compile(r"(asyncio|.*loop|.*get_running_loop\(\)|.*get_event_loop\(\))$")


def task_groups_own_every_task(module: Module) -> Iterator[Violation]:
    """No task is started but in a TaskGroup."""
    for node in module.nodes:
        if isinstance(node, ast.ImportFrom) and node.module == "asyncio":
            for alias in node.names:
                if alias.name in ("create_task", "ensure_future"):
                    yield module.violation(node, f"imports asyncio.{alias.name}; a TaskGroup owns every task")
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, name = ast.unparse(node.func.value), node.func.attr
        if name == "ensure_future" or (name == "create_task" and _LOOPS.match(owner)):
            yield module.violation(node, f"{owner}.{name}; a TaskGroup owns every task")


def types_are_told(module: Module) -> Iterator[Violation]:
    """There is no Any outside wire/layout.py and no cast."""
    for node, name in _imports(module):
        if name == "typing.Any" and module.path not in ANY_ALLOWED:
            yield module.violation(node, "imports Any; say the type, or object")
        if name == "typing.cast":
            yield module.violation(node, "imports cast; make the type checker see it")
    for node in module.nodes:
        if isinstance(node, ast.Attribute) and ast.unparse(node) in (
            "typing.Any",
            "typing.cast",
            "t.Any",
            "t.cast",
        ):
            yield module.violation(node, f"uses {ast.unparse(node)}")


_IGNORE = re.compile(r"#\s*(?:type:\s*ignore|noqa)")
_REASONED = re.compile(r"#\s*(?:type:\s*ignore\[[\w, -]+\]|noqa:\s*[A-Z0-9, ]+?)\s*#\s*\S")


def ignores_have_reasons(module: Module) -> Iterator[Violation]:
    """A `type: ignore[code]` or `noqa: CODE` is followed by a second # and the reason."""
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        if token.type == tokenize.COMMENT and _IGNORE.match(token.string) and not _REASONED.match(token.string):
            yield Violation(module.path, token.start[0], f"{token.string}: say the code, then # and the reason")


_BYTES = {"bytes", "bytearray", "memoryview", "Buffer"}


def only_wire_takes_bytes_apart(module: Module) -> Iterator[Violation]:
    """Layers 1 and 2 neither index a byte nor convert integers: layouts do. It sees parameters, so not every case."""
    if not module.is_pure or module.unit == "wire":
        return
    for node, name in _imports(module):
        if name.split(".")[0] == "struct":
            yield module.violation(node, "imports struct; declare a Layout")
    for node in module.nodes:
        if isinstance(node, ast.Attribute) and node.attr in ("from_bytes", "to_bytes"):
            yield module.violation(node, f"uses {node.attr}; declare a Layout")
    for function in _functions(module):
        buffers = {a.arg for a in _positional(function) if a.annotation and _names(a.annotation) & _BYTES}
        buffers -= {a.arg for a in _positional(function) if isinstance(a.annotation, ast.Subscript)}
        for node in ast.walk(function):
            if isinstance(node, ast.Subscript) and _names(node.value) & buffers and _is_number(node.slice):
                yield module.violation(node, f"{ast.unparse(node)} takes a byte by its index; declare a Layout")


def _is_number(node: ast.AST) -> bool:
    return isinstance(node.operand if isinstance(node, ast.UnaryOp) else node, ast.Constant)


def tests_do_not_sleep(module: Module) -> Iterator[Violation]:
    """Only end-to-end tests wait for real time; asyncio.sleep(0) lets others run and is no wait."""
    if module.parts[0] != "tests" or module.parts[1] == "endtoend":
        return
    for node in module.nodes:
        if not isinstance(node, ast.Call) or ast.unparse(node.func) not in (
            "time.sleep",
            "asyncio.sleep",
            "sleep",
        ):
            continue
        if not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0):
            yield module.violation(node, f"{ast.unparse(node)}: tests do not sleep")


def clauses_have_the_agreed_form(module: Module) -> Iterator[Violation]:
    """A `clause` mark names one pinned revision and a clause: RFC7143 11.8, SPC4r37 5.13.9."""
    for node in module.nodes:
        if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("mark.clause"):
            continue
        text = node.args[0].value if len(node.args) == 1 and isinstance(node.args[0], ast.Constant) else None
        if not isinstance(text, str) or not _CLAUSE.fullmatch(text):
            revisions = ", ".join(PINNED_REVISIONS.values())
            yield module.violation(node, f"clause({text!r}): write RFC7143 11.8 or one of {revisions} and the clause")


def has_functions(module: Module) -> bool:
    """Tells whether a module does something, and is not declarations alone."""
    return any(function.name not in ("__init__", "__str__") for function in _functions(module))


def needed_modules(module: Module) -> set[str]:
    """Returns the names that a module imports from the package when it is itself imported, not later or for types."""
    body = [node for node in module.tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    top = Module(module.path, "\n".join(ast.unparse(node) for node in body))
    return {name for _, name in _imports(top) if name.startswith("iscsi_target.")}


def find_circle(needed: dict[str, set[str]]) -> list[str]:
    """Returns module names of which each imports the next and the last is the first again; empty when there is none.

    needed    module -> names that it imports: modules, or names in modules
    """
    graph = {module: {_owner(name, needed) for name in names} - {None} for module, names in needed.items()}
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(name for name in graph[module] if name):
            if circle := walk(other, [*path, module]):
                return circle
        done.add(module)
        return []

    return next((circle for module in sorted(graph) if (circle := walk(module, []))), [])


def _owner(name: str, needed: dict[str, set[str]]) -> str | None:
    """The module that an imported name stands for: itself, or the module that it is taken from."""
    return next((candidate for candidate in (name, name.rpartition(".")[0]) if candidate in needed), None)


# Rules for the package, for the tools beside it, and for the tests.
EVERYWHERE: tuple[Rule, ...] = (
    modules_are_short,
    functions_are_short,
    parameters_are_few,
    ignores_have_reasons,
    tests_do_not_sleep,
    clauses_have_the_agreed_form,
)
NOT_IN_TESTS: tuple[Rule, ...] = (
    imports_go_down,
    scsi_imports_go_down,
    pure_layers_stay_pure,
    alike_parameters_are_named,
    public_names_are_documented,
    only_drivers_catch_everything,
    task_groups_own_every_task,
    types_are_told,
    only_wire_takes_bytes_apart,
)
