"""The frame of every command: help, exit codes, one sentence per error, colour, light starts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import handmade
import pytest
from standins import FakeJudge, Run, the_object

from halfhour.generator._version import VERSION
from halfhour.generator.cli import main
from halfhour.generator.commands import _machine
from halfhour.generator.errors import JudgeError
from halfhour.generator.session import Session


def every_command(
    group: click.Group = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))


COMMANDS = dict(every_command())
VERBS = {path: c for path, c in COMMANDS.items() if not isinstance(c, click.Group)}


SPEAKERS = {("reset",), ("hunt",), ("completion",)}
"""What they print is for a person, or for a shell."""


def test_these_are_the_commands() -> None:
    assert {" ".join(path) for path in VERBS} == {
        "new",
        "hunt",
        "check",
        "hint",
        "status",
        "reset",
        "pause",
        "resume",
        "reveal",
        "accuse",
        "prove",
        "replay",
        "report",
        "stats",
        "mutators list",
        "mutators show",
        "mutators try",
        "mutators check",
        "mutators new",
        "mutators page",
        "subjects list",
        "subjects check",
        "subjects new",
        "subjects trace",
        "pack WEEK",
        "pack plan",
        "pack verify",
        "pack open",
        "pack site",
        "grade",
        "certify",
        "doctor",
        "completion",
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_has_help(run: Run, path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    ended = run(*path, "--help")

    assert ended.exit_code == 0
    assert command.help
    assert command.help.splitlines()[0].endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_every_command_takes_debug(path: tuple[str, ...]) -> None:
    assert "debug" in {parameter.name for parameter in VERBS[path].params}


@pytest.mark.parametrize("path", sorted(set(VERBS) - SPEAKERS), ids=" ".join)
def test_every_command_that_reports_takes_json(path: tuple[str, ...]) -> None:
    assert "json" in {parameter.name for parameter in VERBS[path].params}


def test_help_shows_every_command_with_its_whole_sentence(run: Run) -> None:
    shown = run("--help").stdout

    for path, command in COMMANDS.items():
        if len(path) == 1:
            assert command.help is not None
            sentence = command.help.splitlines()[0].removesuffix(".")
            assert re.search(rf"^  {path[0]} +{re.escape(sentence)}", shown, re.MULTILINE)


def test_the_name_and_the_version_are_on_stdout(run: Run) -> None:
    assert run("--help").stdout.startswith("Usage: halfhour ")
    assert run("--version").stdout == f"halfhour {VERSION}\n"


def test_an_unknown_command_is_answered_with_the_nearest(run: Run) -> None:
    ended = run("chekc")

    assert ended.exit_code == 2
    assert "there is no command named 'chekc'; did you mean check" in ended.stderr


def test_an_unknown_option_is_a_usage_error(run: Run) -> None:
    ended = run("check", "--frob")

    assert ended.exit_code == 2
    assert "No such option" in ended.stderr


def test_an_error_is_one_sentence_on_stderr(run: Run) -> None:
    ended = run("check", "nowhere")

    assert ended.exit_code == 2
    assert ended.stdout == ""
    assert ended.stderr == "halfhour: there is no folder nowhere\n"


def test_an_error_under_json_is_one_object_too(run: Run) -> None:
    ended = run("check", "nowhere", "--json")

    assert ended.exit_code == 2
    assert the_object(ended) == {
        "schema": 1,
        "error": "there is no folder nowhere",
        "exit_code": 2,
    }


def test_the_unexpected_is_one_sentence_and_exits_with_four(
    run: Run, hunt: Path, judge: FakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division\nby zero")

    assert judge.broken
    monkeypatch.setattr(_machine, "judge", broken)

    ended = run("check", str(hunt))

    assert ended.exit_code == 4
    assert ended.stderr == (
        "halfhour: unexpected ZeroDivisionError: division by zero; run again with --debug\n"
    )
    for debug in (["--debug", "check", str(hunt)], ["check", str(hunt), "--debug"]):
        assert "Traceback" in run(*debug).stderr


def test_ctrl_c_exits_with_130(
    run: Run, hunt: Path, judge: FakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    assert judge.broken
    monkeypatch.setattr(_machine, "judge", interrupted)

    ended = run("check", str(hunt), "--json")

    assert ended.exit_code == 130
    assert the_object(ended)["exit_code"] == 130
    assert Session(hunt, handmade.puzzle()).hunt.is_open


def test_an_error_of_ours_shows_its_traceback_only_with_debug(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise JudgeError("no worker starts")

    monkeypatch.setattr("halfhour.generator.session.current", broken)

    assert run("status").stderr == "halfhour: no worker starts\n"
    assert "Traceback" in run("status", "--debug").stderr


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
    ids=["a pipe", "FORCE_COLOR", "NO_COLOR wins"],
)
def test_colour_is_for_terminals_and_for_who_asks(
    *, run: Run, hunt: Path, judge: FakeJudge, environment: dict[str, str], coloured: bool
) -> None:
    assert judge.broken

    ended = run("check", str(hunt), env=environment)

    assert ("\x1b[" in ended.stdout) is coloured
    assert "not fixed" in ended.stdout


def test_json_is_never_coloured_and_keeps_its_letters(
    run: Run, hunt: Path, judge: FakeJudge
) -> None:
    judge.says = JudgeError("kein Gerät")

    ended = run("check", str(hunt), "--json", env={"FORCE_COLOR": "1"})

    assert "kein Gerät" in ended.stdout
    assert json.loads(ended.stdout)["verdict"] == "environment"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["check", "--help"],
        ["new", "--help"],
        ["mutators", "try", "--help"],
        ["mutators", "new", "--help"],
        ["subjects", "new", "--help"],
        ["certify", "--help"],
        ["doctor", "--help"],
        ["hint", "HUNT"],
        ["status", "HUNT", "--json"],
        ["reset", "HUNT"],
        ["reveal", "HUNT"],
    ],
    ids=" ".join,
)
def test_a_quick_command_loads_nothing_heavy(hunt: Path, arguments: list[str]) -> None:
    heavy = ["torch", "libcst", "numpy", "pytest", "ruff"]
    if arguments[:1] != ["reveal"]:
        heavy.append("jinja2")
    code = (
        "import sys\n"
        "from halfhour.generator.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        f"    print('LOADED', sorted(set({heavy!r}) & set(sys.modules)))\n"
    )
    place = [str(hunt) if argument == "HUNT" else argument for argument in arguments]

    ended = subprocess.run(
        [sys.executable, "-c", code, *place],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("LOADED []\n")
