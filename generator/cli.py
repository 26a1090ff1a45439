"""The command line: finds the command, and turns every end into one sentence and an exit code.

0 fixed, or done · 1 not fixed, or found wanting · 2 asked for what is not there
3 the submission cannot be judged · 4 the environment · 130 interrupted
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from ._version import VERSION
from .console import Console, debug_flag
from .errors import HalfhourError, UsageError
from .library import unknown

INTERRUPTED = 130
UNEXPECTED = 4

_SECTIONS = {
    "Hunt": {
        "new": "new:new",
        "hunt": "live:hunt",
        "check": "check:check",
        "hint": "hunt:hint",
        "status": "hunt:status",
        "reset": "hunt:reset",
        "pause": "live:pause",
        "resume": "live:resume",
        "reveal": "hunt:reveal",
        "accuse": "diagnosis:accuse",
        "prove": "diagnosis:prove",
    },
    "Look back": {
        "replay": "history:replay",
        "report": "history:report",
        "stats": "history:stats",
    },
    "Publish": {"pack": "pack:pack"},
    "Judge others": {"grade": "grade:grade"},
    "Make bugs and files": {
        "mutators": "mutators:mutators",
        "subjects": "subjects:subjects",
        "certify": "certify:certify",
    },
    "Set up": {"doctor": "doctor:doctor"},
    "For your shell": {"completion": "completion:completion"},
}
_COMMANDS = {name: place for section in _SECTIONS.values() for name, place in section.items()}


class Halfhour(click.Group):
    """Commands are imported when they are wanted; none may end in a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(f"{__package__}.commands.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise UsageError(f"{unknown('command', name, _COMMANDS)}; see: halfhour --help")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, places in _SECTIONS.items():
            rows = []
            for name in places:
                command = self.get_command(ctx, name)
                assert command is not None
                rows.append((name, command.get_short_help_str(limit=84)))
            with formatter.section(section):
                formatter.write_dl(rows)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002
        **extra: Any,
    ) -> NoReturn:
        """Run one command and exit with its code."""
        console = Console()
        try:
            ended = super().main(
                args, prog_name or "halfhour", complete_var, False, obj=console, **extra
            )
            code = ended if isinstance(ended, int) else 0
        except click.ClickException as error:
            error.show()
            if console.as_json:
                console.json({"error": error.format_message(), "exit_code": error.exit_code})
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            console.error("interrupted", INTERRUPTED)
            code = INTERRUPTED
        except HalfhourError as error:
            if console.debug:
                console.trace()
            console.error(str(error), error.exit_code)
            code = error.exit_code
        except Exception as error:
            if console.debug:
                console.trace()
            what = f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
            console.error(f"{what[:300]}; run again with --debug", UNEXPECTED)
            code = UNEXPECTED
        sys.exit(code)


@click.command(
    "halfhour",
    cls=Halfhour,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, prog_name="halfhour", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> int:
    """Hunt one planted bug in a correct-looking inference file, in half an hour.

    \b
    cd "$(halfhour new)"     a new puzzle; its README.md is the brief
    halfhour hunt            the clock, the tests on every save, the keys
    halfhour check           which promises does the file keep?
    halfhour hint            a little help
    halfhour reveal          the answer

    Without a command: where you are and what to do next.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    from .commands.hunt import where_you_are

    return where_you_are()


main.params.append(debug_flag())
