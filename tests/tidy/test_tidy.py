"""The project's own source keeps the rules of its architecture and conventions."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.tidy import rules
from tests.tidy.rules import EVERYWHERE, NOT_IN_TESTS, Module, Rule

ROOT = Path(__file__).parent.parent.parent


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    return tuple(Module(path.relative_to(ROOT).as_posix(), path.read_text()) for path in sources(*folders))


def check(rule: Rule, checked: tuple[Module, ...]) -> None:
    violations = [str(violation) for module in checked for violation in rule(module)]
    assert not violations, f"{rule.__doc__}\n" + "\n".join(violations)


@pytest.mark.parametrize("rule", EVERYWHERE, ids=lambda rule: rule.__name__)
def test_all_source_keeps(rule: Rule) -> None:
    check(rule, modules("iscsi_target", "tools", "tests"))


@pytest.mark.parametrize("rule", NOT_IN_TESTS, ids=lambda rule: rule.__name__)
def test_source_but_tests_keeps(rule: Rule) -> None:
    check(rule, modules("iscsi_target", "tools"))


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {".".join(module.parts): rules.needed_modules(module) for module in modules("iscsi_target")}
    circle = rules.find_circle(graph)
    assert not circle, "modules import each other: " + " -> ".join(circle)


def test_every_module_with_functions_has_a_test_module() -> None:
    missing = [
        f"{module.path}: no test module {test.relative_to(ROOT)}"
        for module in modules("iscsi_target")
        if not module.path.endswith(("__init__.py", "__main__.py"))
        and rules.has_functions(module)
        and not (test := _test_module(module)).exists()
        and not test.with_suffix("").is_dir()
        and not list(test.parent.glob(f"{test.stem}_*.py"))
    ]
    assert not missing, "\n".join(missing)


def _test_module(module: Module) -> Path:
    _, *folders, name = module.parts
    return ROOT.joinpath("tests", "unit", *folders, f"test_{name}.py")


def test_shell_tools_stop_at_the_first_error() -> None:
    shells = [path for path in sorted(ROOT.glob("tools/*")) if path.suffix == "" and path.is_file()]
    for path in [*(shell for shell in shells if "bash" in shell.read_text()[:30]), ROOT / ".ci" / "run"]:
        assert "\nset -eu\n" in path.read_text(), f"{path.relative_to(ROOT)}: set -eu is missing"
        assert path.stat().st_mode & 0o111, f"{path.relative_to(ROOT)}: not executable"
