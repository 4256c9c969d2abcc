"""Each rule finds the violation that is planted for it, and leaves the same thing done right alone."""

import pytest

from tests.tidy import rules
from tests.tidy.rules import EVERYWHERE, NOT_IN_TESTS, Module, Rule, find_circle, needed_modules

PURE = "iscsi_target/scsi/planted.py"
DRIVER = "iscsi_target/storage/planted.py"
TEST = "tests/unit/test_planted.py"
LONG_BODY = "\n".join("    pass" for _ in range(49))

# rule, path, source that breaks it, source that keeps it
PLANTED: list[tuple[Rule, str, str, str]] = [
    (
        rules.imports_go_down,
        PURE,
        "from iscsi_target.target import Target",
        "from iscsi_target.wire.layout import Layout\nfrom iscsi_target.scsi import task",
    ),
    (rules.imports_go_down, PURE, "import iscsi_target.iscsi.pdu", "import iscsi_target.scsi.state.task"),
    (rules.imports_go_down, PURE, "from iscsi_target import server", "from iscsi_target import wire"),
    (rules.imports_go_down, PURE, "def f():\n    from iscsi_target.cli import main", "import struct"),
    (rules.imports_go_down, PURE, "from . import task", "from iscsi_target.scsi import task"),
    (rules.imports_go_down, "iscsi_target/novelty.py", "", ""),
    (
        rules.scsi_imports_go_down,
        PURE,
        "from iscsi_target.scsi.layouts import cdb",
        "from iscsi_target.scsi.nexus import Nexus",
    ),
    (
        rules.scsi_imports_go_down,
        "iscsi_target/scsi/state/planted.py",
        "from iscsi_target.scsi.unit.lane import Lane",
        "from iscsi_target.scsi.state.task import Task\nfrom iscsi_target.scsi.layouts import cdb",
    ),
    (rules.pure_layers_stay_pure, PURE, "import os.path", "import dataclasses"),
    (rules.pure_layers_stay_pure, PURE, "from time import monotonic", "from enum import Enum"),
    (rules.modules_are_short, PURE, "x = 1\n" * 501, "x = 1\n" * 500),
    (rules.functions_are_short, PURE, f"def f():\n{LONG_BODY}", f"def f():\n{LONG_BODY[9:]}"),
    (rules.parameters_are_few, PURE, "def f(a, b, c, d, e, *, g): ...", "def f(self, a, b, c, d, *, e): ..."),
    (rules.parameters_are_few, PURE, "def f(a, b, c, d, *e, **g): ...", "def f(a, b, c, *d, **e): ..."),
    (
        rules.parameters_are_few,
        PURE,
        "def __init__(self, a, *, b, c, d, e, f): ...",
        "def __init__(self, *, a, b, c, d, e, f): ...",
    ),
    (
        rules.only_drivers_catch_everything,
        DRIVER,
        "try: ...\nexcept BaseException:\n    raise ValueError",
        "try: ...\nexcept BaseException:\n    close()\n    raise",
    ),
    (
        rules.alike_parameters_are_named,
        PURE,
        "def f(a: int, b: str, c: int, d: int): ...",
        "def f(a: int, b: str, c: int, *, d: int): ...",
    ),
    (rules.public_names_are_documented, PURE, "x = 1", '"""Says."""'),
    (
        rules.public_names_are_documented,
        PURE,
        '"""Says."""\nclass C:\n    """Is."""\n    def f(self): ...',
        '"""Says."""\nclass C:\n    """Is."""\n    def _f(self): ...',
    ),
    (
        rules.only_drivers_catch_everything,
        DRIVER,
        "try: ...\nexcept Exception: ...",
        "try: ...\nexcept OSError: ...",
    ),
    (rules.only_drivers_catch_everything, DRIVER, "try: ...\nexcept: ...", "try: ...\nfinally: ..."),
    (
        rules.only_drivers_catch_everything,
        DRIVER,
        "with contextlib.suppress(Exception): ...",
        "with contextlib.suppress(KeyError): ...",
    ),
    (
        rules.only_drivers_catch_everything,
        "iscsi_target/server/server.py",
        "try: ...\nexcept Exception: ...\ntry: ...\nexcept Exception: ...",
        "try: ...\nexcept Exception: ...",
    ),
    (
        rules.task_groups_own_every_task,
        DRIVER,
        "asyncio.create_task(work())",
        "group.create_task(work())",
    ),
    (
        rules.task_groups_own_every_task,
        DRIVER,
        "asyncio.get_running_loop().create_task(work())",
        "self._tasks.create_task(work())",
    ),
    (
        rules.task_groups_own_every_task,
        DRIVER,
        "from asyncio import ensure_future",
        "from asyncio import TaskGroup",
    ),
    (rules.types_are_told, PURE, "from typing import Any", "from typing import NamedTuple"),
    (rules.types_are_told, PURE, "import typing\nx = typing.cast(int, y)", "import typing\nx = typing.Final"),
    (
        rules.ignores_have_reasons,
        PURE,
        "x = y  # type: ignore[misc]",
        "x = y  # type: ignore[misc]  # no stubs",
    ),
    (rules.ignores_have_reasons, PURE, "x = y  # type: ignore  # reason", "x = 'type: ignore'"),
    (rules.ignores_have_reasons, PURE, "x = y  # noqa: S102", "x = y  # noqa: S102  # our own source"),
    (
        rules.only_wire_takes_bytes_apart,
        PURE,
        "def f(cdb: bytes): return cdb[0]",
        "def f(cdb: bytes): return cdb[:4]",
    ),
    (
        rules.only_wire_takes_bytes_apart,
        PURE,
        "def f(cdb: bytes | memoryview): return cdb[-1]",
        "def f(cdbs: list[bytes]): return cdbs[-1]",
    ),
    (rules.only_wire_takes_bytes_apart, PURE, "import struct", "import dataclasses"),
    (rules.only_wire_takes_bytes_apart, PURE, "x = int.from_bytes(b, 'big')", "x = int('1')"),
    (rules.tests_do_not_sleep, TEST, "time.sleep(1)", "asyncio.sleep(0)"),
    (
        rules.clauses_have_the_agreed_form,
        TEST,
        "@pytest.mark.clause('RFC 7143 11.8')\ndef test_f(): ...",
        "@pytest.mark.clause('RFC7143 11.8')\ndef test_f(): ...",
    ),
    (
        rules.clauses_have_the_agreed_form,
        TEST,
        "@pytest.mark.clause('SPC4r36 6.6')\ndef test_f(): ...",
        "@pytest.mark.clause('SPC4r37 6.6')\ndef test_f(): ...",
    ),
]


@pytest.mark.parametrize(("rule", "path", "broken", "kept"), PLANTED)
def test_a_planted_violation_is_found_with_its_place(rule: Rule, path: str, broken: str, kept: str) -> None:
    found = list(rule(Module(path, broken)))
    assert len(found) == 1
    assert str(found[0]).startswith(f"{path}:")


@pytest.mark.parametrize(
    ("rule", "path", "broken", "kept"), [row for row in PLANTED if row[1] != "iscsi_target/novelty.py"]
)
def test_the_same_done_right_is_no_violation(rule: Rule, path: str, broken: str, kept: str) -> None:
    assert list(rule(Module(path, kept))) == []


def test_every_rule_has_a_planted_violation() -> None:
    assert {row[0] for row in PLANTED} == {*EVERYWHERE, *NOT_IN_TESTS}


def test_a_circle_of_imports_is_found() -> None:
    needed = {
        "iscsi_target.a": {"iscsi_target.b.name"},
        "iscsi_target.b": {"iscsi_target.c"},
        "iscsi_target.c": {"iscsi_target.a.Name"},
    }
    assert find_circle(needed) == ["iscsi_target.a", "iscsi_target.b", "iscsi_target.c", "iscsi_target.a"]
    assert find_circle(needed | {"iscsi_target.c": set()}) == []


def test_imports_for_types_or_at_call_time_are_no_circle() -> None:
    source = (
        "from iscsi_target.b import B\nif TYPE_CHECKING:\n    import iscsi_target.c\n"
        "def f():\n    import iscsi_target.d"
    )
    assert needed_modules(Module("iscsi_target/a.py", source)) == {"iscsi_target.b.B"}
