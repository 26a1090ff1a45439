"""What the streaming detokenizer promises: `subject` is the file under test.

The oracles see the whole text: its bytes are decoded at once, and stop strings are searched at
every place. Texts and where they are cut are drawn from `seed`, which differs between runs.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

CHARACTERS = "aé漢🎉 \n"
STOPS = ["END", "\n\n", "ab"]
NO_TEXT = (260, 261)  # special tokens


def _vocab(word: bytes = b"", *, data: bytes = b"") -> dict[int, bytes]:
    """Return a token for each byte of some letters and of `data`, and token 300 for a word."""
    vocab = {byte: bytes([byte]) for byte in b"abxyzEND!\2\xc3\xa9" + data}
    return {**vocab, 300: word}


def _cut(rng: random.Random, data: bytes) -> list[bytes]:
    """Cut bytes into pieces of no to five bytes."""
    pieces = []
    while data:
        n = rng.randrange(6)
        pieces.append(data[:n])
        data = data[n:]
    return pieces


def _first_stop(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """Return the first place at which a stop string ends, and the longest that does."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return end, max(found, key=len)
    return None


def _n_held(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end may be the beginning of a stop string."""
    beginnings = [stop[:n] for stop in stops for n in range(len(stop))]
    return max((len(start) for start in beginnings if text.endswith(start)), default=0)


def _end(subject: Any, event: Any) -> tuple[str, int, str | None, str | int | None]:
    """Return the text, the number of tokens, and the two reasons of an event."""
    fields = subject.fields(event)
    return fields["text"], fields["n_tokens"], fields["finish_reason"], fields["stop_reason"]


# ----- bytes to characters


@pytest.mark.symptom("Emoji and accents arrive as black diamonds while the answer streams.")
def test_characters_survive_any_cut(subject: Any, seed: int) -> None:
    """However bytes are cut, the pieces are the text, and none holds a broken character."""
    rng = random.Random(seed)
    for _ in range(2):
        text = "".join(rng.choices(CHARACTERS, k=12)) + "x"
        assembler = subject.Utf8Assembler()
        detokenizer = subject.StreamingDetokenizer(
            dict(enumerate(pieces := _cut(rng, text.encode())))
        )
        got = [assembler.push(piece) for piece in pieces]
        sent = [detokenizer.push(i).text for i in range(len(pieces))]
        assert "".join(got) == "".join(sent) == text
        assert detokenizer.text == text
        assert assembler.finish() == ""
        assert _end(subject, detokenizer.close()) == ("", len(pieces), "abort", None)


@pytest.mark.symptom("Text appears one token late.")
def test_a_complete_character_is_sent_at_once(subject: Any) -> None:
    """After every byte, all characters that are complete have been returned."""
    assembler = subject.Utf8Assembler()
    data = "aé漢🎉b".encode()
    got = [assembler.push(data[i : i + 1]) for i in range(len(data))]

    assert got == ["a", "", "é", "", "", "漢", "", "", "", "🎉", "b"]
    assert assembler.push("éa漢".encode()[:-1]) == "éa"
    assert assembler.push(b"") == ""
    assert assembler.push("漢é".encode()[-3:]) == "漢é"
    assert assembler.finish() == ""


@pytest.mark.symptom("One odd byte from the model garbles the rest of the answer.")
def test_bytes_that_are_no_text_are_replaced(subject: Any, seed: int) -> None:
    """What cannot become a character is U+FFFD as in decoding at once, and is not waited for."""
    assembler = subject.Utf8Assembler()
    assert [
        assembler.push(data) for data in (b"\xff", b"\x80", b"a\xc3", b"b", b"\xe0", b"\x80")
    ] == [
        "\ufffd",
        "\ufffd",
        "a",
        "\ufffdb",
        "",
        "\ufffd\ufffd",
    ]
    rng = random.Random(seed)
    parts = [*(character.encode() for character in CHARACTERS), *map(bytes, [[0xC3], [0xA9]])]
    parts += [b"\xf0\x9f", b"\xe6\xbc", b"\xff", b"\xf5", b"\xed\xa0\x80"]
    for _ in range(3):
        data = b"".join(rng.choices(parts, k=9))
        assembler = subject.Utf8Assembler()
        got = "".join(assembler.push(piece) for piece in _cut(rng, data)) + assembler.finish()
        assert got == data.decode("utf-8", errors="replace")


@pytest.mark.symptom("The last character of an answer that was cut off is missing.")
def test_an_unfinished_character_at_the_end_is_replaced_once(subject: Any) -> None:
    """When no more bytes come, the beginning of a character is one U+FFFD, and nothing is left."""
    for held in (b"\xc3", b"\xe6\xbc", b"\xf0\x9f\x8e"):
        assembler = subject.Utf8Assembler()
        assert assembler.push(b"a" + held) == "a"
        assert assembler.finish() == "\ufffd"
        assert assembler.finish() == ""
        assert assembler.push(b"\xa9b") == "\ufffdb"

        detokenizer = subject.StreamingDetokenizer({0: b"a" + held})
        assert detokenizer.push(0).text == "a"
        assert _end(subject, detokenizer.close()) == ("\ufffd", 1, "abort", None)
        assert detokenizer.text == "a\ufffd"


# ----- stop strings


@pytest.mark.symptom("Answers go on behind the stop string, or end at the wrong one.")
def test_the_text_ends_at_the_first_stop_string(subject: Any, seed: int) -> None:
    """The stop string complete first, the longest of those, ends the text wherever it is cut."""
    for stops, text, sent, stop in [
        (["abcd", "bc"], "xabcde", "xa", "bc"),
        (["END"], "aENDbENDc", "a", "END"),
        (["b", "ab"], "xabab", "x", "ab"),
        (["abc", "b"], "b abc", "", "b"),
    ]:
        matcher = subject.StopMatcher(stops)
        assert (matcher.push(text), matcher.matched) == (sent, stop)
    matcher = subject.StopMatcher(["END"])
    assert [matcher.push(piece) for piece in ("aE", "N", "Db")] == ["a", "", ""]
    assert (matcher.matched, matcher.finish()) == ("END", "")

    rng = random.Random(seed)
    for i in range(8):
        stops = ["".join(rng.choices("ab", k=rng.randrange(1, 5))) for _ in range(3)]
        stops += [stops[0] + "c", "cc" + stops[1]]
        text = "".join(rng.choices("abc", weights=[2, 2, 3], k=9))
        found = _first_stop(text, stops)
        include_stop = i % 2 == 1
        matcher = subject.StopMatcher(stops, include_stop=include_stop)
        pieces = [piece.decode() for piece in _cut(rng, text.encode())]
        got = "".join(matcher.push(piece) for piece in pieces)
        if found is None:
            assert (got + matcher.finish(), matcher.matched) == (text, None)
            continue
        end, stop = found
        assert matcher.matched == stop
        assert got == text[: end if include_stop else end - len(stop)]
        assert matcher.push("c") == matcher.finish() == ""


@pytest.mark.symptom("Half of a stop string shows up at the end of an answer.")
def test_nothing_of_a_stop_string_is_sent_early(subject: Any) -> None:
    """While the end of the text may become a stop string it is held, and sent when it cannot."""
    matcher = subject.StopMatcher(STOPS)
    steps = [("xE", "x"), ("N", ""), ("E", "EN"), ("N", ""), ("a", "EN"), ("\n", "a")]
    steps += [("a", "\n"), ("a", "a"), ("c\n", "ac"), ("EN", "\n"), ("D!", "")]
    for piece, sent in steps:
        assert matcher.matched is None
        assert matcher.push(piece) == sent
    assert matcher.matched == "END"


@pytest.mark.symptom("The stream stutters: text arrives in bursts.")
def test_no_more_is_held_than_may_become_a_stop_string(subject: Any, seed: int) -> None:
    """All is sent but the longest end of the text with which a stop string begins."""
    rng = random.Random(seed)
    for stops in (
        [],
        ["x"],
        ["aab", "abba"],
        ["ababx", "bb", "cab"],
        ["aaaa", "ac"],
        ["caca", "x"],
    ):
        matcher = subject.StopMatcher(stops)
        text = got = ""
        for piece in rng.choices(["a", "b", "ab", "c", "", "aa"], k=9):
            text += piece
            got += matcher.push(piece)
            found = _first_stop(text, stops)
            if found is not None:
                assert got == text[: found[0] - len(found[1])]
                break
            assert got == text[: len(text) - _n_held(text, stops)]


@pytest.mark.symptom("Answers lose their last characters.")
def test_held_text_is_sent_at_the_end(subject: Any) -> None:
    """What was held as a possible stop string is sent once when no more text comes."""
    matcher = subject.StopMatcher(["abc", "b!"])
    assert matcher.push("xab") == "x"
    assert matcher.finish() == "ab"
    assert (matcher.finish(), matcher.matched) == ("", None)

    for tail, sent in [(b"EN", "EN"), (b"\n", "\n"), (b"E\xc3", "E\ufffd"), (b"", "")]:
        options = subject.StreamOptions(stop=tuple(STOPS))
        detokenizer = subject.StreamingDetokenizer({0: b"x" + tail}, options)
        first = detokenizer.push(0)
        assert first.text + detokenizer.close().text == "x" + sent == detokenizer.text
        assert _end(subject, first)[1:] == (1, None, None)


@pytest.mark.symptom("Stop strings work only when they happen to be one token.")
def test_an_answer_ends_at_a_stop_string_however_tokens_are_cut(subject: Any, seed: int) -> None:
    """Text up to a stop string is sent, the event says which one it was, and no text follows."""
    rng = random.Random(seed)
    for stop in ("END", "\n\n", "é🎉", "漢"):
        text = ""
        for character in rng.choices("aé \nEN漢🎉", k=9):
            text += "" if (text + character).endswith(stop) else character
        text += "b"
        include_stop = len(stop) != 2
        pieces = _cut(rng, (text + stop).encode())
        pieces[-1] += b" tail\xc3"
        options = subject.StreamOptions(stop=("x", stop, "y"), include_stop=include_stop)
        detokenizer = subject.StreamingDetokenizer(dict(enumerate(pieces)), options)
        events = [_end(subject, detokenizer.push(i)) for i in range(len(pieces))]
        want = text + stop if include_stop else text
        assert "".join(event[0] for event in events) == detokenizer.text == want
        assert [event[1] for event in events] == list(range(1, len(pieces) + 1))
        assert [event[2:] for event in events[:-1]] == [(None, None)] * (len(pieces) - 1)
        assert events[-1][2:] == ("stop", stop)
        assert (detokenizer.finish_reason, detokenizer.stop_reason) == ("stop", stop)


# ----- other ends


@pytest.mark.symptom("Answers that the model ends itself lose their last word.")
def test_a_stop_token_ends_the_answer_without_text(subject: Any) -> None:
    """A stop token counts but has no text of its own, and what was held is sent with it."""
    for token_id in (0, 2, 900, 260):
        options = subject.StreamOptions(
            stop=("abc",), stop_token_ids=(0, 2, 900, 260), include_stop=True
        )
        detokenizer = subject.StreamingDetokenizer(_vocab(b"hi ab\xc3"), options, NO_TEXT)
        assert detokenizer.push(300).text == "hi "
        assert _end(subject, detokenizer.push(token_id)) == ("ab\ufffd", 2, "stop", token_id)
        assert (detokenizer.finish_reason, detokenizer.stop_reason) == ("stop", token_id)
        assert detokenizer.text == "hi ab\ufffd"
    options = subject.StreamOptions(stop_token_ids=(0,))
    assert _end(subject, subject.StreamingDetokenizer({}, options).push(0)) == ("", 1, "stop", 0)


@pytest.mark.symptom("Answers end sooner than min_new_tokens allows, or one token later.")
def test_the_first_tokens_do_not_end_an_answer(subject: Any) -> None:
    """The first min_new_tokens tokens are sent as they are; from the next on conditions hold."""
    for minimum in (0, 1, 3):
        given = {"stop_token_ids": (2, 260, 900), "min_new_tokens": minimum}
        options = subject.StreamOptions(stop=("END", "N!"), **given)
        for token_id, text in ((300, "END"), (2, "\2"), (260, ""), (900, "")):
            detokenizer = subject.StreamingDetokenizer(_vocab(b"END"), options, NO_TEXT)
            for n in range(1, minimum + 1):
                assert _end(subject, detokenizer.push(token_id)) == (text, n, None, None)
            stop_reason = "END" if token_id == 300 else token_id
            want = ("", minimum + 1, "stop", stop_reason)
            assert _end(subject, detokenizer.push(token_id)) == want
            assert detokenizer.text == text * minimum


@pytest.mark.symptom("With min_new_tokens, words are missing from the start of answers.")
def test_text_of_the_first_tokens_is_no_part_of_a_stop_string(subject: Any) -> None:
    """What was sent before stop conditions hold is neither held, nor taken back, nor matched."""
    options = subject.StreamOptions(stop=("END",), min_new_tokens=2)
    detokenizer = subject.StreamingDetokenizer(_vocab(), options)
    got = [detokenizer.push(byte).text for byte in b"ENDxEND"]

    assert got == ["E", "N", "D", "x", "", "", ""]
    assert _end(subject, detokenizer.close()) == ("", 7, "stop", "END")
    assert detokenizer.text == "ENDx"


@pytest.mark.symptom("Answers are one token longer than paid for, or their end is missing.")
def test_an_answer_has_at_most_max_new_tokens(subject: Any) -> None:
    """The token that reaches max_new_tokens is the last; with it all that was held is sent."""
    for maximum in (1, 2, 5):
        for minimum in (0, maximum):
            options = subject.StreamOptions(
                stop=("zzzzzzE",), max_new_tokens=maximum, min_new_tokens=minimum
            )
            detokenizer = subject.StreamingDetokenizer(_vocab(b"z\xc3"), options)
            for n in range(1, maximum):
                assert detokenizer.push(122).finish_reason is None, n
            assert _end(subject, detokenizer.push(300))[1:] == (maximum, "length", None)
            assert detokenizer.text == "z" * maximum + "\ufffd"
            assert detokenizer.finish_reason == "length"

    for token_id, stop_reason in ((300, "END"), (2, 2)):
        options = subject.StreamOptions(stop=("END",), stop_token_ids=(2,), max_new_tokens=2)
        detokenizer = subject.StreamingDetokenizer(_vocab(b"yEND"), options)
        detokenizer.push(120)
        assert _end(subject, detokenizer.push(token_id))[1:] == (2, "stop", stop_reason)


# ----- tokens without text, and the first space


@pytest.mark.symptom("Markers such as <|im_end|> show up in answers, or break an emoji.")
def test_special_tokens_have_no_text_but_count(subject: Any) -> None:
    """A special token adds no text, even within a character or a stop string, but is counted."""
    options = subject.StreamOptions(stop=("END",))
    vocab = {**_vocab(b"EN", data="🎉".encode()), 260: b"<special>"}
    detokenizer = subject.StreamingDetokenizer(vocab, options, [260, 261])
    tokens = [0xF0, 260, 0x9F, 261, 0x8E, 0x89, 260, 300, 261, 68]
    events = [_end(subject, detokenizer.push(token_id)) for token_id in tokens]

    assert [event[0] for event in events] == ["", "", "", "", "", "🎉", "", "", "", ""]
    assert [event[1] for event in events] == list(range(1, 11))
    assert events[-1][2:] == ("stop", "END")
    assert list(detokenizer.token_ids) == tokens


@pytest.mark.symptom("Answers begin with a space, or words of the answer stick together.")
def test_one_leading_space_can_be_left_out(subject: Any) -> None:
    """With strip_leading_space one space that begins the answer is dropped, and no other."""
    for data, plain, stripped in [
        (b"  a b", "  a b", " a b"),
        (b"a b", "a b", "a b"),
        (b" ", " ", ""),
        (b"\n a", "\n a", "\n a"),
        ("\xa0a".encode(), "\xa0a", "\xa0a"),
        (b"\xff a", "\ufffd a", "\ufffd a"),
    ]:
        for strip, want in ((False, plain), (True, stripped)):
            options = subject.StreamOptions(strip_leading_space=strip, min_new_tokens=len(data) % 2)
            detokenizer = subject.StreamingDetokenizer(_vocab(data=data), options, NO_TEXT)
            assert len(list(subject.stream([260, *data], detokenizer, "r"))) > 1
            assert detokenizer.text == want
    options = subject.StreamOptions(strip_leading_space=True)
    assert subject.StreamingDetokenizer({0: b"   a "}, options).push(0).text == "  a "
    options = subject.StreamOptions(stop=(" a",), strip_leading_space=True)
    detokenizer = subject.StreamingDetokenizer({0: b" a", 1: b" a"}, options)
    assert [_end(subject, detokenizer.push(i)) for i in (0, 1)] == [
        ("a", 1, None, None),
        ("", 2, "stop", " a"),
    ]


# ----- state


@pytest.mark.symptom("Answers change after they have ended, or two answers get mixed up.")
def test_an_answer_that_has_ended_stays_as_it_is(subject: Any) -> None:
    """No token is taken after the end, closing once more changes nothing, answers are separate."""
    options = subject.StreamOptions(stop=("END",), stop_token_ids=(2,), max_new_tokens=3)
    for tokens, reasons in [
        ([120, 300], ("stop", "END")),
        ([2], ("stop", 2)),
        ([120] * 3, ("length", None)),
    ]:
        other = subject.StreamingDetokenizer(_vocab(b"END"), options)
        detokenizer = subject.StreamingDetokenizer(_vocab(b"END"), options)
        for token_id in tokens:
            assert detokenizer.finish_reason is None
            detokenizer.push(token_id)
        text = detokenizer.text
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"."):
                detokenizer.push(120)
            assert _end(subject, detokenizer.close()) == ("", len(tokens), *reasons)
        assert (detokenizer.text, list(detokenizer.token_ids)) == (text, tokens)
        assert (other.text, list(other.token_ids)) == ("", [])
        assert _end(subject, other.push(69)) == ("", 1, None, None)
        assert _end(subject, other.close()) == ("E", 1, "abort", None)
        with pytest.raises(RuntimeError, match=r"."):
            other.push(120)


@pytest.mark.symptom("One bad token id spoils the rest of the answer.")
def test_an_unknown_token_is_refused_and_changes_nothing(subject: Any) -> None:
    """An id that is in no table raises ValueError, and the answer goes on as if it had not come."""
    options = subject.StreamOptions(stop=("END",), stop_token_ids=(900,), max_new_tokens=5)
    detokenizer = subject.StreamingDetokenizer(_vocab(b"E\xc3"), options, NO_TEXT)
    detokenizer.push(300)
    for token_id in (-1, 256, 262, 899, 301):
        with pytest.raises(ValueError, match=r"."):
            detokenizer.push(token_id)

    assert list(detokenizer.token_ids) == [300]
    assert _end(subject, detokenizer.push(0xA9)) == ("Eé", 2, None, None)
    assert _end(subject, detokenizer.push(261)) == ("", 3, None, None)
    assert _end(subject, detokenizer.push(900)) == ("", 4, "stop", 900)


# ----- frames


def _body(frame: str) -> dict[str, Any]:
    """Return the body of a frame that is one line of data and a blank line."""
    assert frame.startswith("data: ")
    assert frame.endswith("\n\n")
    line = frame[len("data: ") : -2]
    assert "\n" not in line
    assert "\r" not in line
    body: dict[str, Any] = json.loads(line)
    return body


@pytest.mark.symptom("Clients hang or crash on answers with line breaks.")
def test_a_frame_is_one_line_of_json(subject: Any) -> None:
    """Any text fits into one line of data; the usage stands in the last frame and in no other."""
    texts = ["a\nb\r\n\rc", '"quoted" \\n', "data: x\n\ndata: [DONE]\n\n", "é🎉\u2028", ""]
    for text in texts:
        event = subject.StreamEvent(text=text, n_tokens=4)
        body = {"id": "r1", "index": 0, "text": text, "finish_reason": None}
        assert _body(subject.sse(event, "r1")) == body
        event = subject.StreamEvent(text, 3, "stop", "END")
        body = {"id": "r2", "index": 5, "text": text, "finish_reason": "stop", "stop_reason": "END"}
        body["usage"] = {"completion_tokens": 3}
        assert _body(subject.sse(event, "r2", 5)) == body


@pytest.mark.symptom("Clients never learn that an answer is complete.")
def test_a_stream_ends_with_one_reason_and_done(subject: Any) -> None:
    """Every piece is a frame, empty ones are not, the last has the reason, then comes [DONE]."""
    for tokens, texts, end in [
        (b"hi E!", ["h", "i", " ", "E!", ""], ("abort", None, 5)),
        (b"aENDxyz", ["a", ""], ("stop", "END", 4)),
        (b"aE\2yz", ["a", "E"], ("stop", 2, 3)),
        (b"EN\xc3", ["EN\ufffd"], ("abort", None, 3)),
        (b"abcdefgh", list("abcdef"), ("length", None, 6)),
        (b"", [""], ("abort", None, 0)),
        (b"\2", [""], ("stop", 2, 1)),
    ]:
        options = subject.StreamOptions(stop=("END",), stop_token_ids=(2,), max_new_tokens=6)
        detokenizer = subject.StreamingDetokenizer(_vocab(data=tokens), options)
        *frames, done = list(subject.stream(list(tokens), detokenizer, "r"))
        assert done == "data: [DONE]\n\n"
        bodies = [_body(frame) for frame in frames]
        assert [body["text"] for body in bodies] == texts
        assert {(body["id"], body["index"]) for body in bodies} == {("r", 0)}
        reason, stop_reason, n_tokens = end
        assert [body["finish_reason"] for body in bodies] == [None] * (len(texts) - 1) + [reason]
        assert bodies[-1]["stop_reason"] == stop_reason
        assert bodies[-1]["usage"] == {"completion_tokens": n_tokens}


@pytest.mark.symptom("With n=3, answers get each other's words, or the stream ends with the first.")
def test_several_answers_share_a_stream(subject: Any, seed: int) -> None:
    """Frames name their answer, each ends by itself, and late tokens for it are dropped."""
    rng = random.Random(seed)
    options = subject.StreamOptions(stop=("END",), stop_token_ids=(2,), max_new_tokens=9)
    answers = [b"oneENDno", b"two\2\2", b"tEN", b"0123456789", b""]
    wanted = [
        ("one", "stop", 6),
        ("two", "stop", 4),
        ("tEN", "abort", 3),
        ("012345678", "length", 9),
        ("", "abort", 0),
    ]
    order = [i for i, answer in enumerate(answers) for _ in answer]
    rng.shuffle(order)
    tokens = [iter(answer) for answer in answers]
    steps = [(i, next(tokens[i])) for i in order]
    choices = [subject.StreamingDetokenizer(_vocab(data=answer), options) for answer in answers]
    *frames, done = list(subject.stream_choices(steps, choices, "r"))

    assert done == "data: [DONE]\n\n"
    for i, (text, reason, n_tokens) in enumerate(wanted):
        bodies = [body for body in map(_body, frames) if body["index"] == i]
        assert "".join(body["text"] for body in bodies) == text == choices[i].text
        assert [body["finish_reason"] for body in bodies[:-1]] == [None] * (len(bodies) - 1)
        assert bodies[-1]["finish_reason"] == reason == choices[i].finish_reason
        assert bodies[-1]["usage"]["completion_tokens"] == n_tokens


@pytest.mark.symptom("The engine goes on computing for answers that have ended.")
def test_no_token_is_looked_at_after_the_last_answer_has_ended(subject: Any) -> None:
    """What comes behind the end is not even checked; until then unknown ids and answers are."""
    options = subject.StreamOptions(max_new_tokens=1)
    for steps in ([(0, 97), (1, 98), None, (0, -1)], [(0, 97), (0, -1), (1, 98), None]):
        choices = [subject.StreamingDetokenizer(_vocab(), options) for _ in range(2)]
        frames = list(subject.stream_choices(steps, choices, "r"))
        assert [_body(frame)["text"] for frame in frames[:-1]] == ["a", "b"]
    detokenizer = subject.StreamingDetokenizer(_vocab(), options)
    assert len(list(subject.stream([97, -1], detokenizer, "r"))) == 2
    with pytest.raises(ValueError, match=r"."):
        list(subject.stream([-1], subject.StreamingDetokenizer(_vocab(), options), "r"))
    for index in (-1, 2, 3):
        choices = [subject.StreamingDetokenizer(_vocab(), options) for _ in range(2)]
        with pytest.raises(ValueError, match=r"."):
            list(subject.stream_choices([(0, 97), (index, 97)], choices, "r"))
    assert list(subject.stream_choices([], [], "r")) == ["data: [DONE]\n\n"]


@pytest.mark.symptom("A client loses frames when the network joins or cuts them.")
def test_frames_are_read_however_they_are_cut(subject: Any, seed: int) -> None:
    """Bodies come out whole and in order from any pieces, up to [DONE] and not beyond."""
    rng = random.Random(seed)
    bodies = [
        {"text": text, "n": n} for n, text in enumerate(["a\n\nb", "", "é🎉", "[DONE]", ": x"])
    ]
    frames = [f"data: {json.dumps(body, ensure_ascii=False)}\n\n" for body in bodies]
    text = "".join(frames)
    behind = "data: [DONE]\n\n" + frames[0]

    assert list(subject.parse_sse([*frames, behind])) == bodies
    assert list(subject.parse_sse([text + behind])) == bodies
    assert list(subject.parse_sse(text + behind)) == bodies
    for _ in range(4):
        cuts = sorted(rng.sample(range(len(text)), k=9))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert list(subject.parse_sse([*pieces, behind])) == bodies
    assert list(subject.parse_sse([text])) == bodies
    assert list(subject.parse_sse([text[:-5]])) == bodies[:-1]
    assert list(subject.parse_sse([])) == []


@pytest.mark.symptom("A keep-alive line breaks the client.")
def test_lines_that_are_no_data_are_skipped(subject: Any) -> None:
    """Comments and other fields are skipped; the space behind the colon may be missing."""
    text = ': keep-alive\n\ndata: {"a": 1}\n\nevent: x\nid: 7\ndata:{"a": "data: 2"}\n\n'
    text += ':\n\n:data: {"a": 3}\n\ndatabase: {"a": 4}\n\ndata:[DONE]\n\n'

    assert list(subject.parse_sse([text])) == [{"a": 1}, {"a": "data: 2"}]
    assert list(subject.parse_sse(text.replace("\n", "\r\n"))) == [{"a": 1}, {"a": "data: 2"}]


@pytest.mark.symptom("The client shows another text than the server sent.")
def test_a_client_gets_what_was_sent(subject: Any, seed: int) -> None:
    """Collecting a stream gives the text, the reason and the number of tokens of every answer."""
    rng = random.Random(seed)
    options = subject.StreamOptions(stop=("END",), max_new_tokens=40)
    texts = ["".join(rng.choices(CHARACTERS + '"\\', k=7)) + end for end in ("END..", "!", "EN")]
    steps = [(i, byte) for i, text in enumerate(texts) for byte in text.encode()]
    rng.shuffle(order := [i for i, _ in steps])
    queues = [iter([byte for i, byte in steps if i == index]) for index in range(3)]
    mixed = [(i, next(queues[i])) for i in order]
    choices = [subject.StreamingDetokenizer(_vocab(data=text.encode()), options) for text in texts]
    frames = list(subject.stream_choices(mixed, choices, "r"))
    got = subject.collect(frames[:-1])

    assert sorted(got) == [0, 1, 2]
    for i, text in enumerate(texts):
        assert got[i].text == text.removesuffix("END..") == choices[i].text
        assert got[i].finish_reason == ("stop" if i == 0 else "abort")
        assert got[i].n_tokens == len(text.encode()) - (2 if i == 0 else 0)
    unfinished = subject.collect([frames[0]])
    (completion,) = unfinished.values()
    assert (completion.finish_reason, completion.n_tokens) == (None, None)
    assert len(subject.collect(["data: [DONE]\n\n"])) == 0


# ----- misuse


@pytest.mark.symptom("A mistake in a request goes unnoticed until answers are empty.")
def test_misuse_is_refused(subject: Any) -> None:
    """Empty stop strings and impossible numbers raise ValueError; the nearest possible do not."""
    for stops in ([""], ["a", ""]):
        with pytest.raises(ValueError, match=r"."):
            subject.StopMatcher(stops)
        with pytest.raises(ValueError, match=r"."):
            subject.StreamingDetokenizer({}, subject.StreamOptions(stop=tuple(stops)))
    for wrong in (
        {"min_new_tokens": -1},
        {"max_new_tokens": 0},
        {"max_new_tokens": -1},
        {"max_new_tokens": 2, "min_new_tokens": 3},
    ):
        with pytest.raises(ValueError, match=r"."):
            subject.StreamOptions(**wrong)
    for right in ({"max_new_tokens": 1}, {"max_new_tokens": 3, "min_new_tokens": 3}, {}):
        detokenizer = subject.StreamingDetokenizer({0: b"a"}, subject.StreamOptions(**right))
        assert detokenizer.push(0).text == "a"
