"""The rules by which a running server misbehaves, for programs, for the control socket and for a reload."""

from collections.abc import Callable, Sequence

from iscsi_target.config.values import ConfigError, FaultEntry
from iscsi_target.faults.rulebook import MAX_RULES, Report
from iscsi_target.server.driver import Driver
from iscsi_target.target import FaultFired, MisbehavingTarget


class Faults:
    """What a server does wrong, on order.

    target   the machine
    driver   runs it

    observers   are told whenever a rule has fired
    """

    def __init__(self, target: MisbehavingTarget, driver: Driver) -> None:
        self._target = target
        self._driver = driver
        self._entries: Sequence[FaultEntry] = ()
        self._configured: list[str] = []
        self.observers: set[Callable[[FaultFired], None]] = driver.fault_observers

    @property
    def rules(self) -> tuple[Report, ...]:
        """The rules in force, in their order, and how often each has matched and fired."""
        return self._target.faults

    def add(self, rule: str, name: str = "") -> str:
        """Adds a rule after the others, for what comes and goes from now on, and returns its name.

        rule     one line, such as "on scsi-command where opcode=WRITE(10), nth=3: delay 2s"
        name     empty for a number
        raises   RuleError when the rule is not understood, BookError when it cannot be added; both are ValueErrors
        """
        from iscsi_target.faults.grammar import parse

        return self._target.add_fault(parse(rule), name)

    def remove(self, *names: str) -> None:
        """Removes rules, and lets go on what they have kept back.

        raises   BookError, a ValueError, when one is not there; nothing is removed then
        """
        self._driver.order(self._target.remove_faults, names)

    def clear(self) -> None:
        """Removes all rules."""
        self.remove(*(report.name for report in self.rules))

    def check(self, entries: Sequence[FaultEntry]) -> None:
        """Raises ConfigError when `configure` could not add all of a configuration's rules."""
        others = {report.name for report in self.rules} - {*self._configured, *(entry.name for entry in entries)}
        if len(others) + len(entries) > MAX_RULES:
            remedy = "remove some with `iscsi-target faults remove`"
            raise ConfigError(
                "faults", f"would be more than {MAX_RULES} with those that were added since", remedy=remedy
            )

    def configure(self, entries: Sequence[FaultEntry]) -> None:
        """Has the rules of another configuration in the place of those of the one before, unless they are the same.

        Rules that were added otherwise stay, but for those of the same name.
        """
        if entries == self._entries:
            return
        named = {entry.name for entry in entries}
        there = [report.name for report in self.rules]
        self.remove(*(name for name in there if name in self._configured or name in named))
        self._entries = entries
        self._configured = [self._target.add_fault(entry.rule, entry.name) for entry in entries]
