"""A first look at the streaming detokenizer; run me with pytest."""

from __future__ import annotations

from streaming_detokenizer import StreamingDetokenizer, StreamOptions, stream

VOCAB = {0: b"Hello", 1: b" world", 2: b"!", 3: b"STOP"}


def test_tokens_become_text() -> None:
    """A token that is a whole word is sent at once."""
    detokenizer = StreamingDetokenizer(VOCAB)

    assert detokenizer.push(0).text == "Hello"
    assert detokenizer.push(1).text == " world"


def test_a_stop_string_ends_the_answer() -> None:
    """A stop string that is one token ends the answer."""
    detokenizer = StreamingDetokenizer(VOCAB, StreamOptions(stop=("STOP",)))

    assert detokenizer.push(0).finish_reason is None
    assert detokenizer.push(3).finish_reason == "stop"


def test_an_answer_becomes_frames() -> None:
    """All frames hold data, and the last one says that the stream is done."""
    frames = list(stream([0, 1, 2], StreamingDetokenizer(VOCAB), "request-1"))

    assert all(frame.startswith("data: ") and frame.endswith("\n\n") for frame in frames)
    assert "Hello" in frames[0]
    assert "[DONE]" in frames[-1]
