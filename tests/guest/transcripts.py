"""Transcripts: text with commands and what they print, which guests run and which must come out the same.

    What is not indented is prose, but for lines that say where the next commands run, a guest or the host:

    On b:

        $ sg_turs /dev/sda
        test unit ready:
        ...
        [6]

    On the host: the target restarts

A command begins with `$ ` and goes on in the lines after it with `> `. Below it stands what it prints, and in brackets
its status when that is not 0. A line `...` stands for any number of lines, and `[..]` within a line for any text. Blank
lines and spaces at the end of lines do not count. The commands up to the next change of place run in one shell. What
the host can do is up to the test.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.guests.machine import Finished

INDENT = "    "
ANY_LINES, ANY_TEXT = "...", "[..]"
Run = Callable[..., Finished]  # as Guest.run
MARK = "==end-of-command=="


class Step(NamedTuple):
    """A command and what comes of it.

    command   may have several lines
    lines     what it prints, and its exit status in brackets when that is not 0
    """

    command: str
    lines: tuple[str, ...]


class Scene(NamedTuple):
    """What happens in one place.

    place    a guest, by its name, or the host
    action   what the host does; empty for a guest
    steps    what a guest does
    """

    place: str
    action: str = ""
    steps: tuple[Step, ...] = ()


def parse(text: str) -> list[Scene]:
    """Reads a transcript, which begins on guest `a`."""
    scenes = [Scene("a")]
    for line in text.splitlines():
        if line.startswith("On "):
            place, _, action = line.removeprefix("On ").removeprefix("the ").partition(":")
            scenes.append(Scene(place, action.strip()))
        elif line.startswith(INDENT) and line.strip():
            last = scenes.pop()
            scenes.append(last._replace(steps=_with_line(last.steps, line.removeprefix(INDENT).rstrip())))
    return [scene for scene in scenes if scene.action or scene.steps]


def _with_line(steps: tuple[Step, ...], line: str) -> tuple[Step, ...]:
    if line.startswith("$ "):
        return (*steps, Step(line.removeprefix("$ "), ()))
    *before, last = steps
    if line.startswith("> ") and not last.lines:
        return (*before, Step(f"{last.command}\n{line.removeprefix('> ')}", ()))
    return (*before, Step(last.command, (*last.lines, line)))


def matches(expected: Sequence[str], actual: Sequence[str]) -> bool:
    """Tells whether lines are what a transcript has."""
    return re.fullmatch("".join(_patterns(expected)), "".join(f"{line}\n" for line in actual)) is not None


def _patterns(expected: Iterable[str]) -> Iterator[str]:
    for line in expected:
        if line == ANY_LINES:
            yield r"(?:.*\n)*"
        else:
            yield ".*".join(re.escape(part) for part in line.split(ANY_TEXT)) + r"\n"


def perform(run: Run, steps: Sequence[Step], environment: Mapping[str, str], timeout_s: float) -> list[Step]:
    """Runs the commands of a transcript, and returns them with what came of them.

    Numbers that the environment has, such as ports, are printed as the variable's name.
    """
    script = "".join(f"{step.command}\nprintf '\\n{MARK} %d\\n' $?\n" for step in steps)
    output = run(script, timeout_s, environment=environment).output
    for name, value in environment.items():
        output = output.replace(value, f"${name}").replace(value.replace(":", ","), f"${name}")
    *parts, rest = re.split(rf"{MARK} (\d+)\n", output)
    printed = map(_lines, parts[::2], parts[1::2])
    done = [Step(step.command, lines) for step, lines in zip(steps, printed, strict=False)]
    return done if len(done) == len(steps) else [*done, Step(steps[len(done)].command, (*_lines(rest, "0"), "no end"))]


def _lines(printed: str, status: str) -> tuple[str, ...]:
    lines = tuple(line.rstrip() for line in printed.splitlines() if line.strip())
    return lines if status == "0" else (*lines, f"[{status}]")


def rewrite(file: Path, actual: Sequence[Step]) -> None:
    """Puts into a transcript what came of its commands, where that does not match; prose stays."""
    expected = [step for scene in parse(file.read_text()) for step in scene.steps]
    steps = iter(then if matches(then.lines, now.lines) else now for then, now in zip(expected, actual, strict=False))
    written: list[str] = []
    for line in file.read_text().splitlines():
        if line.startswith(f"{INDENT}$ "):
            command, lines = next(steps)
            written += [f"{INDENT}{mark} {part}" for mark, part in zip(_marks(), command.split("\n"), strict=False)]
            written += [INDENT + printed for printed in lines]
        elif not line.startswith(INDENT):
            written.append(line)
    file.write_text("\n".join(written) + "\n")


def _marks() -> Iterator[str]:
    yield "$"
    while True:
        yield ">"
