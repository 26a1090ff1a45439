"""`halfhour pack`: a week's puzzles for others, and the year ahead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ..console import here
from ..errors import UsageError
from ..pack import history
from ..pack.draw import YEAR
from ..pack.order import PUBLIC_SEED, Order
from ..pack.week import Week
from . import _machine
from ._common import Verb, json_option, shown

if TYPE_CHECKING:
    from ..pack.manifest import Manifest
    from ..pack.plan import Plan, PlannedWeek

SHELF = Path("packs")
"""Where packs lie, below the working folder."""

_WEEK = "WEEK"
_OF_FILES = {"verify": "verify", "open": "open_", "site": "site"}
_MOST_SEED = 2**63 - 1
_MOST_PUZZLES = 10
_MOST_BUGS = 4
_PATH = click.Path(path_type=Path)


class _Pack(click.Group):
    """What is no command of the group is a week: `halfhour pack 2026-W48`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_OF_FILES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _OF_FILES:
            return super().get_command(ctx, cmd_name)
        command = getattr(import_module(f"{__package__}.pack_files"), _OF_FILES[cmd_name])
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {*self.list_commands(ctx), *ctx.help_option_names}
        return super().parse_args(ctx, args if not args or args[0] in known else [_WEEK, *args])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = super().shell_complete(ctx, incomplete)
        weeks = _weeks(ctx, None, incomplete)
        return [*map(CompletionItem, weeks), *(item for item in found if item.value != _WEEK)]


def _weeks(_: click.Context, __: click.Parameter | None, incomplete: str) -> list[str]:
    """Complete a week: by a word, or this one and the next by name."""
    names = (
        ["this", "next"]
        if not incomplete[:1].isdigit()
        else [Week.parse(word, date.today()).name for word in ("this", "next")]
    )
    return [name for name in names if name.startswith(incomplete)]


def _drawing(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that say what is drawn."""
    for option in (
        click.option(
            "--history",
            "history_folder",
            metavar="DIR",
            type=_PATH,
            help="Where the answers of earlier packs lie; where packs are written by default.",
        ),
        click.option(
            "--bugs",
            type=click.IntRange(1, _MOST_BUGS),
            default=1,
            show_default=True,
            help="So many bugs in each puzzle from level 4 on.",
        ),
        click.option(
            "--count",
            type=click.IntRange(1, _MOST_PUZZLES),
            default=5,
            show_default=True,
            help="How many puzzles; their levels rise from the lowest to the highest.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, _MOST_SEED),
            default=PUBLIC_SEED,
            show_default=True,
            envvar="HALFHOUR_PACK_SEED",
            show_envvar=True,
            help="The publisher's; a week that is to be secret wants a secret one.",
        ),
    ):
        command = option(command)
    return command


@click.group(cls=_Pack)
def pack() -> None:
    """Publish a week's puzzles; plan, verify and open them.

    \b
    halfhour pack this            this week's puzzles, answers and page, in packs/
    halfhour pack 2026-W48        those of any week; halfhour pack WEEK --help: options
    halfhour pack plan            the year ahead
    """


class _Week(Verb):
    """Its name is its argument, which need not be said twice."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return ["[OPTIONS]"]


@pack.command(_WEEK, cls=_Week)
@click.argument("week", metavar=_WEEK, shell_complete=_weeks)
@_drawing
@click.option("--with-judge", is_flag=True, help="Seal the answers in what candidates get.")
@click.option(
    "--out",
    metavar="DIR",
    type=_PATH,
    default=SHELF,
    show_default=True,
    help="Where to write.",
)
@json_option
def make(
    *,
    week: str,
    seed: int,
    count: int,
    bugs: int,
    history_folder: Path | None,
    with_judge: bool,
    out: Path,
) -> int:
    """Make the puzzles of a week: 2026-W48, `this` or `next`.

    Three files are written, all or none: the zip for candidates, the zip of the answers, and a page
    that presents the week. The first holds the SHA-256 of the second, so that answers published
    later can be held against it. A week that is there already is left as it is.

    The default seed is public: anyone with halfhour can make the same week, answers and all. With
    --with-judge the answers lie in the zip for candidates, sealed against accidents alone.
    """
    console = here()
    order = Order(Week.parse(week, date.today()), seed, count, bugs, with_judge)
    found = _machine.standing_pack(out, order)
    written = found is None
    if found is None:
        met = history.met(_earlier(history_folder, out), order.week)
        console.say(f"{order.week.name}: drawing {_puzzles(count)}, proving them in disguise")
        with console.progress() as report:
            found = _machine.make_pack(
                order,
                met,
                out,
                progress=lambda place, step: report(f"puzzle {place} of {count}: step {step}"),
            )
    _hand_over(found, out, written=written, public=seed == PUBLIC_SEED)
    return 0


@pack.command(cls=Verb)
@click.option(
    "--weeks", type=click.IntRange(1, 520), default=52, show_default=True, help="How many."
)
@click.option(
    "--from",
    "first",
    metavar=_WEEK,
    default="this",
    show_default=True,
    shell_complete=_weeks,
    help="The first week.",
)
@_drawing
@json_option
def plan(
    *, weeks: int, first: str, seed: int, count: int, bugs: int, history_folder: Path | None
) -> int:
    """Show topics and levels of the weeks ahead, and that no bug comes back in the same file.

    It is drawn from the table of certified puzzles, and nothing is made: in its disguise a puzzle
    may turn out to be of another level, and the next choice then takes its place. Exits with 1
    where the catalogue does not suffice, saying what binds.
    """
    from ..pack import plan as planning
    from ..pack.table import read_table

    order = Order(Week.parse(first, date.today()), seed, count, bugs)
    earlier = _earlier(history_folder, SHELF)
    planned = planning.plan(read_table(), order, weeks, earlier)
    again = planning.repeats(planned, earlier)
    if here().as_json:
        here().json(_plan_as_json(planned, again, weeks))
    else:
        _print_plan(planned)
        _say_plan(planned, again)
    return 1 if planned.binding or again else 0


def _earlier(folder: Path | None, shelf: Path) -> dict[Week, frozenset[tuple[str, str]]]:
    """Return what earlier packs held. Raises UsageError for a folder that was named and is none."""
    if folder is not None and not folder.is_dir():
        raise UsageError(f"there is no folder {folder} with earlier packs")
    return history.pairs_by_week(folder if folder is not None else shelf)


def _hand_over(manifest: Manifest, out: Path, *, written: bool, public: bool) -> None:
    from ..pack import names

    console = here()
    week = manifest.week
    files = {
        "puzzles": out / names.puzzles_zip(week),
        "answers": out / names.answers_zip(week),
        "page": out / names.page(week),
    }
    if console.as_json:
        console.json(
            {
                "week": week,
                "written": written,
                "files": {what: shown(path) for what, path in files.items()},
                "answers_sha256": manifest.answers,
                "judged": manifest.judged,
                "puzzles": [
                    {
                        "puzzle": puzzle.id,
                        "folder": puzzle.folder,
                        "subject": puzzle.subject,
                        "title": puzzle.title,
                        "topics": list(puzzle.topics),
                        "level": puzzle.level,
                        "bugs": puzzle.bugs,
                        "lines": puzzle.lines,
                    }
                    for puzzle in manifest.puzzles
                ],
            }
        )
    else:
        for path in files.values():
            console.out(shown(path))
    if not written:
        console.say(f"{week} is there already, sound and as asked for; nothing was written")
        return
    levels = ", ".join(str(puzzle.level) for puzzle in manifest.puzzles)
    console.say(f"{_puzzles(len(manifest.puzzles))} of level {levels}")
    answers = shown(files["answers"])
    console.say(f"publish the zip and the page; keep {answers} until the week is over")
    if manifest.judged:
        console.note("the zip for candidates holds the answers too, sealed against accidents alone")
    if public:
        console.note("the seed is public: anyone can make this week; for a secret one see --seed")


def _print_plan(planned: Plan) -> None:
    head = [f"level {slot.level}" for slot in planned.weeks[0].slots] if planned.weeks else []
    rows = [(each.week.name, *(slot.drawn.topic for slot in each.slots)) for each in planned.weeks]
    if rows:
        here().table(("week", *head), rows)


def _say_plan(planned: Plan, again: Sequence[str]) -> None:
    puzzles = sum(len(each.slots) for each in planned.weeks)
    different = len(frozenset().union(*(each.pairs for each in planned.weeks)))
    counted = f"{puzzles} puzzles in {_counted(len(planned.weeks), 'week')}"
    for sentence in again:
        here().say(f"found wanting: {sentence}")
    if planned.binding:
        here().say(f"found wanting: {planned.binding}")
        here().say(f"it suffices for {counted}")
    elif not again:
        here().say(
            f"{counted}, {different} different pairs of bug and file: counted one by one, none"
            f" comes back within {YEAR} weeks"
        )


def _plan_as_json(planned: Plan, again: Sequence[str], weeks: int) -> dict[str, Any]:
    return {
        "holds": not (planned.binding or again),
        "asked": weeks,
        "binding": planned.binding,
        "repeats": again,
        "weeks": [_week_as_json(each) for each in planned.weeks],
    }


def _week_as_json(each: PlannedWeek) -> dict[str, Any]:
    puzzles = [
        {"level": slot.level, "topic": slot.drawn.topic, "bugs": slot.bugs} for slot in each.slots
    ]
    return {"week": each.week.name, "puzzles": puzzles}


def _puzzles(count: int) -> str:
    return _counted(count, "puzzle")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
