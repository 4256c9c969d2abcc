"""`iscsi-target faults`: shows and changes the rules by which a running server misbehaves."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from iscsi_target.cli.control_client import EXIT_INTERRUPTED, Answer, Unanswered, ask, ask_once, server_state
from iscsi_target.config.values import ConfigError

WATCH = "watch"


class Options(NamedTuple):
    """What the command line says.

    verb            list, add, remove, clear or watch
    rule, name      for add: the rule, and its name or empty
    names           for remove
    state           the server's state directory, or None
    configuration   a file that names it, or None
    """

    verb: str
    rule: str = ""
    name: str = ""
    names: tuple[str, ...] = ()
    state: Path | None = None
    configuration: Path | None = None
    json: bool = False


def run(options: Options) -> int:
    """Carries the command out and returns the exit status.

    raises    ConfigError for what is not done
    """
    state = server_state(options.state, options.configuration)
    try:
        for line in _watch(state, options) if options.verb == WATCH else _told(state, options):
            print(line, flush=options.verb == WATCH)
    except KeyboardInterrupt:
        return 0 if options.verb == WATCH else EXIT_INTERRUPTED  # which is how one stops watching
    return 0


def _request(options: Options) -> dict[str, object]:
    match options.verb:
        case "add":
            return {"request": "add_fault", "rule": options.rule, "name": options.name}
        case "remove":
            return {"request": "remove_faults", "names": list(options.names)}
        case "clear":
            return {"request": "clear_faults"}
        case _:
            return {"request": "faults"}


def _told(state: Path, options: Options) -> Iterator[str]:
    answer = ask_once(state, _request(options))
    if options.json:
        yield json.dumps(answer)
    elif options.verb == "add":
        yield f"added {answer.get('added')}"
    elif options.verb == "list":
        yield from _lines(answer)


def _lines(answer: Answer) -> Iterator[str]:
    rules = answer.get("faults")
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise ConfigError("the server", "speaks otherwise", remedy="use the iscsi-target that it is")
    if not rules:
        yield "no faults: the target behaves"
    for rule in rules:
        yield f"{rule['name']}: {rule['rule']}"
        yield f"    matched {rule['matched']} times, fired {rule['fired']} times"


def _watch(state: Path, options: Options) -> Iterator[str]:
    with contextlib.suppress(Unanswered):
        for answer in ask(state, {"request": "watch_faults"}):
            if "watching" not in answer:
                yield json.dumps(answer) if options.json else _fired(answer)
    raise ConfigError(f"state {state}", "the server ended, or cut the connection", remedy="start it and watch again")


def _fired(answer: Answer) -> str:
    if "left_out" in answer:
        return f"{answer['left_out']} are missing here: they were not read fast enough"
    tag = answer.get("tag")
    of = f", initiator task tag {tag:#x}" if isinstance(tag, int) else ""
    where = f"connection {answer.get('connection')}: {answer.get('pdu')}{of}"
    return f"{where}: fault {answer.get('rule')} fires for the {answer.get('times')}. time: {answer.get('text')}"
