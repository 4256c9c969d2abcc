"""What a transcript says is what must be printed, line by line."""

from pathlib import Path

import pytest

from tests.guest.transcripts import Run, Scene, Step, matches, parse, perform, rewrite
from tools.guests.machine import Finished

TEXT = """Prose.

    $ one
    $ two \\
    > three
    printed

    [3]
"""
STEPS = (Step("one", ()), Step("two \\\nthree", ("printed", "[3]")))


def printing(output: str) -> Run:
    return lambda script, timeout_s, environment: Finished(output, 0)


def test_commands_are_told_from_prose_and_output() -> None:
    assert parse(TEXT) == [Scene("a", "", STEPS)]


def test_a_line_of_output_may_look_like_one_of_a_command() -> None:
    assert parse("    $ one\n    printed\n    > more\n") == [Scene("a", "", (Step("one", ("printed", "> more")),))]


def test_scenes_are_in_guests_and_on_the_host() -> None:
    text = TEXT + "\nOn the host: rain\nOn b:\n\n    $ one\n\nOn a:\n\n    $ one\n"
    once = (Step("one", ()),)
    assert parse(text) == [Scene("a", "", STEPS), Scene("host", "rain"), Scene("b", "", once), Scene("a", "", once)]


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        (["a", "b"], ["a", "b"], True),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["a"], False),
        (["a.c"], ["abc"], False),
        (["a", "..."], ["a", "b", "c"], True),
        (["...", "c"], ["a", "b"], False),
        (["key=[..] end"], ["key=0x1 end"], True),
        (["key=[..] end"], ["key=0x1", "end"], False),
    ],
)
def test_dots_stand_for_lines_and_for_text(expected: list[str], actual: list[str], same: bool) -> None:
    assert matches(expected, actual) is same


def test_each_command_gets_what_it_printed_and_its_status() -> None:
    run = printing("10.0.2.2:9\n\n==end-of-command== 0\n\nx\n\n==end-of-command== 3\n")
    done = perform(run, STEPS, {"PORTAL": "10.0.2.2:9"}, 1.0)
    assert done == [Step("one", ("$PORTAL",)), Step("two \\\nthree", ("x", "[3]"))]


def test_a_command_that_does_not_end_is_told() -> None:
    assert perform(printing("x\n"), STEPS, {}, 1.0) == [Step("one", ("x", "no end"))]


def test_what_matches_stays_when_a_transcript_is_rewritten(tmp_path: Path) -> None:
    file = tmp_path / "x.transcript"
    text = TEXT.replace("printed\n\n", "pri[..]\n")
    file.write_text(text)
    rewrite(file, [Step("one", ("new",)), Step("two \\\nthree", ("printed", "[3]"))])
    assert file.read_text() == text.replace("$ one", "$ one\n    new")
