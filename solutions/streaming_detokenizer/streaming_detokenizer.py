"""Token ids to text while the model still writes, up to a stop condition, and on to the client.

Two things are held back for a moment: the bytes of a character that is not complete, and text that
may become a stop string. Whatever is sent is final: the pieces one behind the other are the answer,
however its bytes are cut into tokens.

References: UTF-8, RFC 3629; server-sent events,
https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

FinishReason = Literal["stop", "length", "abort"]

DONE = "[DONE]"  # what a stream ends with


class Utf8Assembler:
    """Turns bytes that are cut anywhere into text.

    A character that is not complete waits for its remaining bytes. Bytes that cannot become a
    character are U+FFFD, as when all bytes are decoded at once.
    """

    def __init__(self) -> None:
        self._held = b""  # the beginning of a character

    def push(self, data: bytes) -> str:
        """Return the text that these bytes complete."""
        data = self._held + data
        text, n_used = codecs.utf_8_decode(data, "replace", False)
        self._held = data[n_used:]
        return text

    def finish(self) -> str:
        """Return what stands for the bytes still held, when no more will come."""
        text = self._held.decode(errors="replace")
        self._held = b""
        return text


class StopMatcher:
    """Finds the first stop string in a growing text, and holds back what may become one.

    The stop string that is complete first ends the text; of several that are complete at the same
    character it is the longest. Where the text is cut into pieces makes no difference.
    """

    def __init__(self, stops: Sequence[str], *, include_stop: bool = False) -> None:
        if not all(stops):
            raise ValueError(f"a stop string is empty: {list(stops)}")
        self.stops = tuple(stops)
        self.include_stop = include_stop
        self.matched: str | None = None
        self._held = ""  # the end of the text so far, with which some stop string begins

    def push(self, text: str) -> str:
        """Take the next piece and return what may be sent; behind a stop string nothing may."""
        if self.matched is not None:
            return ""
        text = self._held + text
        found = self._first_stop(text)
        if found is not None:
            end, self.matched = found
            self._held = ""
            return text[:end] if self.include_stop else text[: end - len(self.matched)]
        n_safe = len(text) - self._n_held(text)
        self._held = text[n_safe:]
        return text[:n_safe]

    def finish(self) -> str:
        """Return the text still held, when no more will come."""
        held, self._held = self._held, ""
        return held

    def _first_stop(self, text: str) -> tuple[int, str] | None:
        """Return the stop string that is complete first, and where it ends."""
        ends = [(text.find(stop) + len(stop), stop) for stop in self.stops if stop in text]
        return min(ends, key=lambda end: (end[0], -len(end[1])), default=None)

    def _n_held(self, text: str) -> int:
        """Return the length of the longest end of a text with which a stop string begins."""
        beginnings = (stop[:n] for stop in self.stops for n in range(1, len(stop)))
        return max((len(start) for start in beginnings if text.endswith(start)), default=0)


# One answer.


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """When an answer ends, and what of it the client sees."""

    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop: bool = False  # whether the text ends with its stop string, or before it
    min_new_tokens: int = 0  # tokens that neither end an answer nor are part of a stop string
    max_new_tokens: int | None = None
    strip_leading_space: bool = False  # whether one space that begins the answer is no part of it

    def __post_init__(self) -> None:
        if self.min_new_tokens < 0:
            raise ValueError(f"min_new_tokens must not be negative, got {self.min_new_tokens}")
        if self.max_new_tokens is not None and self.max_new_tokens < max(1, self.min_new_tokens):
            raise ValueError(
                f"max_new_tokens {self.max_new_tokens} must be at least 1 and not below"
                f" min_new_tokens {self.min_new_tokens}"
            )


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """What one token adds to an answer."""

    text: str
    n_tokens: int  # of the answer so far, with special and stop tokens
    finish_reason: FinishReason | None = None  # None while the answer goes on
    stop_reason: str | int | None = None  # the stop string or stop token that ended it


class StreamingDetokenizer:
    """The text of one answer, token by token.

    For every generated token `push` returns what may be sent to the client now, and whether the
    answer has ended. With b"Hi" as token 1, b"!\\n" as 2, b"\\nBye" as 3, and the stop string
    "\\n\\n":

        detokenizer.push(1)    # "Hi"
        detokenizer.push(2)    # "!"; the line break may become a stop string
        detokenizer.push(3)    # "", finish_reason "stop"
    """

    def __init__(
        self,
        vocab: Mapping[int, bytes],
        options: StreamOptions | None = None,
        special: Collection[int] = (),
    ) -> None:
        """Start an answer: `vocab` holds the bytes of tokens; those in `special` have no text."""
        self.vocab = vocab
        self.options = StreamOptions() if options is None else options
        self.special = frozenset(special)
        self.token_ids: list[int] = []
        self.finish_reason: FinishReason | None = None
        self.stop_reason: str | int | None = None
        self._pieces: list[str] = []  # as sent
        self._assembler = Utf8Assembler()
        self._matcher = StopMatcher(self.options.stop, include_stop=self.options.include_stop)
        self._at_start = True  # whether no character is complete yet

    @property
    def text(self) -> str:
        """Return all that was sent."""
        return "".join(self._pieces)

    def push(self, token_id: int) -> StreamEvent:
        """Take one generated token."""
        if self.finish_reason is not None:
            raise RuntimeError(f"token {token_id} after the end ({self.finish_reason})")
        is_stop = token_id in self.options.stop_token_ids
        if token_id not in self.vocab and token_id not in self.special and not is_stop:
            raise ValueError(f"token id {token_id} is unknown")
        self.token_ids.append(token_id)
        n_tokens = len(self.token_ids)
        may_stop = n_tokens > self.options.min_new_tokens
        if is_stop and may_stop:
            return self._event(self._drain(), "stop", token_id)

        data = b"" if token_id in self.special else self.vocab.get(token_id, b"")
        text = self._complete(data)
        if may_stop:
            text = self._matcher.push(text)
            if self._matcher.matched is not None:
                return self._event(text, "stop", self._matcher.matched)
        if n_tokens == self.options.max_new_tokens:
            return self._event(text + self._drain(), "length")
        return self._event(text)

    def close(self) -> StreamEvent:
        """End an answer that no condition has ended, such as when the client is gone."""
        if self.finish_reason is not None:
            return StreamEvent("", len(self.token_ids), self.finish_reason, self.stop_reason)
        return self._event(self._drain(), "abort")

    def _complete(self, data: bytes) -> str:
        text = self._assembler.push(data)
        if self._at_start and text:
            self._at_start = False
            if self.options.strip_leading_space:
                text = text.removeprefix(" ")
        return text

    def _drain(self) -> str:
        """Return all that is held, as no more tokens will come."""
        return self._matcher.finish() + self._assembler.finish()

    def _event(
        self,
        text: str,
        finish_reason: FinishReason | None = None,
        stop_reason: str | int | None = None,
    ) -> StreamEvent:
        self._pieces.append(text)
        self.finish_reason = finish_reason
        self.stop_reason = stop_reason
        return StreamEvent(text, len(self.token_ids), finish_reason, stop_reason)


# To the client.


def sse(event: StreamEvent, request_id: str, index: int = 0) -> str:
    """Write one frame of server-sent events: a line of data, whatever the text, and a blank line.

    The last frame of an answer, which says why it has ended, has the usage.
    """
    body: dict[str, Any] = {
        "id": request_id,
        "index": index,
        "text": event.text,
        "finish_reason": event.finish_reason,
    }
    if event.finish_reason is not None:
        body["stop_reason"] = event.stop_reason
        body["usage"] = {"completion_tokens": event.n_tokens}
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def stream(
    token_ids: Iterable[int], detokenizer: StreamingDetokenizer, request_id: str
) -> Iterator[str]:
    """Yield the frames of one answer, with index 0; see `stream_choices`."""
    steps = ((0, token_id) for token_id in token_ids)
    yield from stream_choices(steps, [detokenizer], request_id)


def stream_choices(
    steps: Iterable[tuple[int, int]], choices: Sequence[StreamingDetokenizer], request_id: str
) -> Iterator[str]:
    """Yield the frames of several answers to one prompt, whose tokens come in any order.

    A step is the index of an answer and its next token. Every piece of text is a frame, an answer
    has exactly one frame with a finish reason, and [DONE] is last. The engine may be some tokens
    ahead: what comes for an answer that has ended is dropped. Nothing is taken from `steps` once
    all have ended; answers that have not when `steps` runs out are closed.
    """
    running = set(range(len(choices)))
    for index, token_id in steps:
        if not 0 <= index < len(choices):
            raise ValueError(f"there is no answer {index} among {len(choices)}")
        if index not in running:
            continue
        event = choices[index].push(token_id)
        if event.text or event.finish_reason is not None:
            yield sse(event, request_id, index)
        if event.finish_reason is not None:
            running.remove(index)
        if not running:
            break
    for index in sorted(running):
        yield sse(choices[index].close(), request_id, index)
    yield f"data: {DONE}\n\n"


# What a client makes of it.


def parse_sse(chunks: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the bodies of all frames before [DONE], from a stream that is cut anywhere.

    Lines may end as on Windows. Those that are no data, such as comments that keep a connection
    alive, are skipped.
    """
    rest = ""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split("\n")
        for line in lines:
            field, _, value = line.partition(":")
            if field != "data":
                continue
            if value.strip() == DONE:
                return
            yield json.loads(value)


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer as the client has it."""

    text: str
    finish_reason: str | None  # None where the stream broke off
    n_tokens: int | None


def collect(chunks: Iterable[str]) -> dict[int, Completion]:
    """Put the answers of a stream together, by index."""
    completions: dict[int, Completion] = {}
    for body in parse_sse(chunks):
        index = body["index"]
        before = completions[index].text if index in completions else ""
        usage = body.get("usage", {})
        completions[index] = Completion(
            before + body["text"], body["finish_reason"], usage.get("completion_tokens")
        )
    return completions
