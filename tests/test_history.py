"""What logs tell: of one hunt moment by moment, on a page, and of all hunts in numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import handmade
import pytest

from halfhour.generator import past, report, session, store, timeline, track_record
from halfhour.generator.past import Past
from halfhour.generator.track_record import Hunted

PUZZLE, ANSWER = handmade.puzzle(), handmade.answer()
START = 1_700_000_000.0
EDIT = PUZZLE.source.replace("total = 0.0", "total = 0.5")
VOID = {"meta", "br", "hr", "img", "input", "link"}


def event(name: str, at: float, **facts: object) -> dict[str, object]:
    return {"event": name, "at": START + at, **facts}


def started(at: float = 0.0, **facts: object) -> dict[str, object]:
    return event("started", at, **{"minutes": 30, "puzzle": "0badcafe", "folder": "/gone", **facts})


def accused(at: float, line: int, *, hit: bool, because: str = "") -> dict[str, object]:
    return event("accused", at, line=line, because=because, hit=hit)


def checked(at: float, verdict: str = "fixed") -> dict[str, object]:
    return event("checked", at, verdict=verdict, kept=4 if verdict == "fixed" else 2, promises=4)


FULL = [
    started(),
    event("saved", 60, text=EDIT),
    event("ran", 61, passed=1, failed=2, seconds=0.4),
    event("hinted", 100, step=1),
    accused(200, 8, hit=False, because="no"),
    accused(300, 11, hit=True, because="the divisor"),
    checked(400, "not_fixed"),
    event("reset", 500),
    event("saved", 600, text=ANSWER.original),
]
OVER = [*FULL, checked(720)]


def hunt_of(events: list[dict[str, object]], now: float = 800) -> Past:
    return past.hunts(events, minutes=30, now=START + now)[-1]


# hunts of a log


def test_a_log_is_cut_where_a_hunt_starts() -> None:
    found = past.hunts([*OVER, started(5000), checked(5600)], minutes=30, now=START + 9000)

    assert [each.hunt.elapsed for each in found] == [720, 600]
    assert [len(each.accusations) for each in found] == [2, 0]


def test_what_is_said_after_the_end_is_no_accusation() -> None:
    found = hunt_of([started(), event("revealed", 10), accused(20, 11, hit=True)])

    assert found.over
    assert found.accusations == ()


GARBAGE: list[dict[str, object]] = [
    {},
    {"event": "saved"},
    {"event": ["started"], "at": START},
    {"event": "saved", "at": "yesterday", "text": "x"},
    {"event": "saved", "at": float("nan"), "text": "x"},
    {"event": "saved", "at": float("inf"), "text": "x"},
    {"event": "saved", "at": 1e300, "text": "x"},
    {"event": "saved", "at": -5, "text": "x"},
    event("saved", 61, text=7),
    event("ran", 62, passed="all", failed=None),
    event("accused", 63, line="eleven", because=1, hit="yes"),
    event("checked", 64, verdict="superb", kept="x", promises=[]),
    event("hinted", 65, step=None),
    event("danced", 66),
    event("about", 67, topic=["x"], level="hard", bugs={"a": 1}),
]


def test_garbage_between_the_events_changes_nothing() -> None:
    mixed = [*GARBAGE, *OVER[:3], *GARBAGE, *OVER[3:], *GARBAGE]

    assert timeline.moments(PUZZLE, hunt_of(mixed)) == timeline.moments(PUZZLE, hunt_of(OVER))
    assert report.page(PUZZLE, ANSWER, hunt_of(mixed)) == report.page(PUZZLE, ANSWER, hunt_of(OVER))


@pytest.mark.parametrize("minutes", [0, -3, 10**9, "30", None])
def test_minutes_that_no_hunt_has_are_not_believed(minutes: object) -> None:
    assert hunt_of([started(minutes=minutes)]).hunt.minutes == 30


# moments


def test_every_event_has_its_words_and_every_save_its_diff() -> None:
    found = timeline.moments(PUZZLE, hunt_of(OVER))

    assert [(m.seconds, m.kind, m.words) for m in found] == [
        (0, "started", "30 minutes"),
        (60, "saved", "the file was saved"),
        (61, "ran", "1 passed, 2 failed"),
        (100, "hinted", "step 1"),
        (200, "accused", "line 8 (missed): no"),
        (300, "accused", "line 11 (hit): the divisor"),
        (400, "checked", "not fixed, 2 of 4 promises kept"),
        (500, "reset", "the file was put back as handed out"),
        (600, "saved", "the file was saved"),
        (720, "checked", "fixed, 4 of 4 promises kept"),
    ]
    assert "-    total = 0.0\n+    total = 0.5\n" in found[1].diff
    after_reset = [line for line in found[8].diff.splitlines() if line[:1] in "+-"][2:]
    assert len(after_reset) == 2
    assert after_reset[1] == "+    return total / len(values)"


def test_while_a_hunt_is_open_no_hit_is_told() -> None:
    words = [m.words for m in timeline.moments(PUZZLE, hunt_of(FULL)) if m.kind == "accused"]

    assert words == ["line 8: no", "line 11: the divisor"]


def test_a_hit_that_was_told_is_told_again() -> None:
    told = {**accused(5, 11, hit=True), "told": True}

    assert timeline.moments(PUZZLE, hunt_of([started(), told]))[1].words == "line 11 (hit)"


def test_a_save_that_changed_nothing_is_no_moment() -> None:
    again = [started(), *(event("saved", n, text=EDIT) for n in range(1, 50))]

    assert [m.kind for m in timeline.moments(PUZZLE, hunt_of(again))] == ["started", "saved"]


def test_texts_can_neither_steer_a_terminal_nor_fail_to_be_written() -> None:
    nasty = "\x1b]0;title\x07\x1b[2J\ud800\u202e\r\n"
    events = [started(), event("saved", 1, text=nasty), accused(2, 3, hit=False, because=nasty)]

    text = "".join(m.words + m.diff for m in timeline.moments(PUZZLE, hunt_of(events)))

    text.encode("utf-8")
    assert not set(text) & {"\x1b", "\x07", "\r", "\u202e"}


def test_a_save_without_its_text_is_told_and_the_next_diff_spans_it() -> None:
    events = [started(), event("saved", 1, digest="d"), event("saved", 2, digest="e", text=EDIT)]

    found = timeline.moments(PUZZLE, hunt_of(events))

    assert [(m.words, bool(m.diff)) for m in found[1:]] == [
        ("the file was saved; its text was not kept", False),
        ("the file was saved", True),
    ]


def test_a_pause_is_told_and_moves_the_bell() -> None:
    events = [started(), event("paused", 100), event("resumed", 1000), checked(1200)]

    found = hunt_of(events, now=1300)

    assert [m.words for m in timeline.moments(PUZZLE, found)][1:3] == [
        "the clock stands",
        "the clock runs on",
    ]
    text = report.page(PUZZLE, ANSWER, found)
    assert found.hunt.elapsed == 300
    assert "The clock rested for 15:00 minutes." in text
    assert ">45:00</text>" in text


def test_a_huge_edit_is_cut_short() -> None:
    events = [started(), event("saved", 1, text="line\n" * 5000)]

    (_, saved) = timeline.moments(PUZZLE, hunt_of(events))

    assert len(saved.diff.splitlines()) < 410
    assert "more lines of this diff" in saved.diff


# the report


class Page(HTMLParser):
    """Refuses tags that do not close; remembers what a browser would fetch, and what it reads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in {"src", "srcset", "data", "action", "poster", "xlink:href"}:
                self.fetched.append(value or "")
            if name == "href":
                (self.links if tag == "a" else self.fetched).append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words += data


def test_the_page_holds_it_all_and_needs_nothing_but_itself() -> None:
    text = report.page(PUZZLE, ANSWER, hunt_of(OVER))

    page = Page(text)
    assert page.fetched == []
    assert page.links == [handmade.BUG.sightings[0].url]
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert not re.search(r"@import|url\(", text)
    assert text.encode().startswith(report.MARK)
    for words in (
        "Mean and spread: solved",
        "12:00",
        "+    total = 0.5",
        "1 passed, 2 failed",
        "2 lines were accused, 1 of them rightly; the first missed.",
        "line 11 (hit): the divisor",
        "return total / (len(values) + (len(values) > 1))",
        handmade.BUG.title,
    ):
        assert words in page.words, words
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_the_time_line_marks_what_happened_where() -> None:
    text = report.page(PUZZLE, ANSWER, hunt_of(OVER))

    lanes = re.findall(r'<text x="0"[^>]*>([^<]*)</text>', text)
    assert lanes == ["saves", "runs", "checks", "hints", "accusations"]
    assert len(re.findall("<circle", text)) + len(re.findall('<path class="good"', text)) == 8
    assert '<path class="good" d="M 530.0 ' in text  # 12 of 30 minutes, from 130 to 1130
    assert 'class="bell" x1="1130.0"' in text


def test_an_open_hunt_is_not_spoiled_by_its_page() -> None:
    text = report.page(PUZZLE, ANSWER, hunt_of(FULL[:-1]))

    for secret in (handmade.BUG.title, handmade.BUG.sightings[0].url, "(hit)", ">hit<", ">missed<"):
        assert secret not in text
    assert "return total / len(values)\n" not in text
    for name, mark in (("a hit", 11), ("a miss", 8)):
        events = [started(), accused(5, mark, hit=name == "a hit")]
        assert 'class="good"' not in report.page(PUZZLE, ANSWER, hunt_of(events))
    assert "told when the hunt is over" in text


def test_what_the_candidate_wrote_is_text_and_nothing_else() -> None:
    attack = "</pre></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7 * 7 }}"
    events = [
        started(),
        event("saved", 10, text=attack),
        accused(20, 3, hit=False, because=attack),
        event("proved", 30, test=attack, holds=False),
        event("checked", 40, verdict=attack, kept=1, promises=2),
        event("revealed", 50),
    ]

    page = Page(report.page(PUZZLE, ANSWER, hunt_of(events)))

    assert not page.tags & {"script", "img"}
    assert page.words.count(attack) >= 4


def test_an_address_that_is_none_is_no_link() -> None:
    bug = handmade.BUG
    evil = handmade.answer(
        bugs=(
            type(bug)(
                **{
                    **{name: getattr(bug, name) for name in bug.__slots__},
                    "sightings": (type(bug.sightings[0])("javascript:alert(1)", "a note"),),
                }
            ),
        )
    )

    page = Page(report.page(PUZZLE, evil, hunt_of(OVER)))

    assert page.links == []
    assert "a note" in page.words


def test_a_log_of_twenty_thousand_events_makes_a_page_that_opens() -> None:
    texts = ("a\n", "b\n")
    events = [started(), *(event("saved", n / 50, text=texts[n % 2]) for n in range(20_000))]

    text = report.page(PUZZLE, ANSWER, hunt_of(events))

    assert len(text) < 2_000_000
    assert "later events are left out" in text
    Page(text)


def test_a_hunt_of_which_nothing_more_is_known_has_a_page() -> None:
    assert "Nothing happened after the start." in report.page(PUZZLE, ANSWER, hunt_of([started()]))


# the record


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def write_log(state: Path, name: str, events: list[dict[str, object]], tail: bytes = b"") -> None:
    (state / "hunts").mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(each) + "\n" for each in events)
    (state / "hunts" / f"{name}.jsonl").write_bytes(lines.encode() + tail)


def about(topic: str, level: int = 2, bug: str = "b") -> dict[str, object]:
    return event("about", 0, subject="toy", topic=topic, level=level, bugs=[bug])


def test_the_record_is_counted_by_topic_and_level(state: Path) -> None:
    write_log(state, "a", [started(), about("masking", 1), *OVER[1:]])
    write_log(state, "b", [started(), about("masking", 3), checked(120)])
    write_log(state, "c", [started(), about("sampling", 3), event("revealed", 60)])

    record = track_record.read(state_dir=state, now=START + 9000)

    masking, sampling = track_record.by_topic(record)
    assert (masking.name, masking.hunts, masking.solved) == ("masking", 2, 2)
    assert (masking.median_seconds, masking.hints) == (420, 1)
    assert (masking.accused, masking.right_at_first) == (1, 0)
    assert (sampling.hunts, sampling.solved, sampling.median_seconds) == (1, 0, None)
    assert [(row.name, row.hunts) for row in track_record.by_level(record)] == [("1", 1), ("3", 2)]
    assert track_record.altogether(record).solved == 2


def test_an_open_hunt_is_not_counted_for_its_topic_would_spoil_it(state: Path) -> None:
    write_log(state, "a", [started(), about("masking", bug="met"), accused(5, 11, hit=True)])

    record = track_record.read(state_dir=state, now=START + 60)

    assert track_record.by_topic(record) == track_record.by_level(record) == ()
    assert track_record.met(record) == {"met"}


def test_a_puzzle_that_came_without_new_is_asked_itself(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALFHOUR_HOME", str(tmp_path))
    folder = tmp_path / "hunt"
    store.write_puzzle(folder, PUZZLE, ANSWER)
    write_log(state, "a", [started(folder=str(folder)), checked(60)])
    write_log(state, "b", [started(folder=str(folder), puzzle="another"), checked(60)])
    write_log(state, "c", [started(), checked(60)])

    record = track_record.read(state_dir=state)

    assert [(each.topic, each.level) for each in record] == [
        ("numerics", 2),
        ("unknown", 0),
        ("unknown", 0),
    ]
    assert record[0].bugs == {track_record.bug_digest("toy", handmade.BUG.mutator)}


def test_what_new_writes_is_what_the_puzzle_says() -> None:
    facts = json.loads(json.dumps(track_record.about(PUZZLE, ANSWER)))

    assert facts["topic"] == "numerics"
    assert facts["bugs"] == [track_record.bug_digest("toy", handmade.BUG.mutator)]
    assert handmade.BUG.mutator not in json.dumps(facts)


def test_garbage_logs_are_passed_over(state: Path) -> None:
    write_log(state, "a", [*GARBAGE, started(), *GARBAGE, checked(60)], tail=b'{"event": "sta')
    (state / "hunts" / "b.jsonl").write_bytes(b"\xff\x00[[[" * 1000)
    (state / "hunts" / "c.jsonl").mkdir()
    write_log(state, "d", [])

    record = track_record.read(state_dir=state)

    assert [(each.topic, each.level, each.solved) for each in record] == [("unknown", 0, True)]


def test_where_there_are_no_logs_there_is_no_record(state: Path) -> None:
    assert track_record.read(state_dir=state) == ()
    assert track_record.altogether(()).median_seconds is None


# what comes next


def hunted(topic: str, **changes: Any) -> Hunted:
    facts: dict[str, Any] = {
        "level": 2,
        "bugs": frozenset(),
        "over": True,
        "solved": True,
        "late": False,
        "seconds": 600.0,
        "hints": 0,
        "accusations": 0,
        "right_at_first": None,
        **changes,
    }
    return Hunted(topic=topic, **facts)


def test_the_weakest_topic_comes_first_and_the_untried_before_the_strong() -> None:
    record = [
        hunted("strong"),
        hunted("hinted", hints=3),
        hunted("late", late=True, hints=3),
        hunted("never", solved=False),
        hunted("never", solved=False),
        hunted("once", solved=False),
    ]
    topics = ["strong", "untried", "hinted", "never", "once", "late"]

    assert track_record.to_practise(record, topics) == [
        "never",
        "once",
        "late",
        "untried",
        "hinted",
        "strong",
    ]


def test_an_open_hunt_says_nothing_of_strength() -> None:
    record = [hunted("b", over=False, solved=False)]

    assert track_record.to_practise(record, ["a", "b"], 3) == track_record.to_practise(
        [], ["a", "b"], 3
    )


def test_equals_come_in_the_order_of_the_seed() -> None:
    topics = [f"topic{n}" for n in range(8)]
    orders = [tuple(track_record.to_practise([], topics, seed)) for seed in (1, 1, 2)]

    assert orders[0] == orders[1] != orders[2]


def test_a_log_as_large_as_one_is_read_is_read(state: Path) -> None:
    def many() -> Iterator[dict[str, object]]:
        yield started()
        for number in range(300):
            yield event("saved", number, text=f"{number}\n" + PUZZLE.source * 20)

    write_log(state, "a", list(many()))

    (found,) = track_record.read(state_dir=state, now=START + 400)
    assert not found.over
    assert session.read_log(state / "hunts" / "a.jsonl")
