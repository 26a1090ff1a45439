"""The detokenizer against codecs, tokenizers and transformers; its promises against other files."""

from __future__ import annotations

import codecs
import random
from typing import Any

import pytest
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading

NAME = "streaming_detokenizer"
SOURCE = source_of(NAME)
TEXT = (
    "The answer is 42. A naïve reader, 漢字を読む人, may ask why: 🎉🎉 the END of the answer is not"
    " the end of the question.\n\nIn the end, and so on, 1 + 1 = 2 END\n"
)


def _edited(*edits: tuple[str, str]) -> str:
    source = SOURCE
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize("seed", leading(1, range(5)))
def test_the_correct_file_keeps_every_promise(seed: int) -> None:
    assert broken_promises(NAME, seed=seed) == {}


# ----- against codecs, tokenizers and transformers


@pytest.mark.parametrize("seed", range(3))
def test_bytes_become_text_as_in_codecs(seed: int) -> None:
    """Any bytes in any pieces: each piece of text is the same, not only all of them together."""
    module = load(NAME, SOURCE)
    rng = random.Random(seed)
    bytes_of_interest = [
        *"aé漢🎉\U0010ffff".encode(),
        *range(0x80, 0x100, 7),
        0xC0,
        0xE0,
        0xED,
        0xF0,
    ]
    for _ in range(200):
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        assembler = module.Utf8Assembler()
        for _ in range(12):
            data = bytes(rng.choices(bytes_of_interest, k=rng.randrange(4)))
            assert assembler.push(data) == decoder.decode(data)
        assert assembler.finish() == decoder.decode(b"", final=True)


@pytest.fixture(scope="module")
def byte_level() -> tuple[Any, dict[int, bytes]]:
    """Return a byte-level tokenizer trained on the text, and the bytes of its ordinary tokens."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<eos>", "<im>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable}
    byte_of |= {chr(256 + i): byte for i, byte in enumerate(others)}
    vocab = {
        token_id: bytes(byte_of[character] for character in token)
        for token, token_id in tokenizer.get_vocab().items()
        if token_id > 1
    }
    return tokenizer, vocab


def _token_ids(tokenizer: Any, vocab: dict[int, bytes], seed: int) -> list[int]:
    """Return the ids of a text, some merged tokens split into bytes, special ones strewn in."""
    rng = random.Random(seed)
    single = {data: token_id for token_id, data in vocab.items() if len(data) == 1}
    token_ids: list[int] = []
    for token_id in tokenizer.encode(TEXT).ids:
        split = rng.random() < 0.3
        data = vocab[token_id]
        token_ids += [single[data[i : i + 1]] for i in range(len(data))] if split else [token_id]
        token_ids += [1] if rng.random() < 0.1 else []
    return token_ids


@pytest.mark.parametrize("seed", range(3))
def test_the_text_grows_as_in_tokenizers(
    byte_level: tuple[Any, dict[int, bytes]], seed: int
) -> None:
    """Its stream waits where a token ends within a character, and ours is otherwise the same."""
    from tokenizers.decoders import DecodeStream

    tokenizer, vocab = byte_level
    ours = load(NAME, SOURCE).StreamingDetokenizer(vocab, special=[0, 1])
    stream = DecodeStream(skip_special_tokens=True)
    theirs, data = "", b""

    for token_id in _token_ids(tokenizer, vocab, seed):
        ours.push(token_id)
        theirs += stream.step(tokenizer, token_id) or ""
        data += vocab.get(token_id, b"")
        assert ours.text == data.decode(errors="ignore")
        within_a_character = ours.text.encode() != data
        assert theirs == ours.text or (within_a_character and ours.text.startswith(theirs))
    assert ours.text == theirs == TEXT


def test_the_text_is_that_of_a_streamer_of_transformers(
    byte_level: tuple[Any, dict[int, bytes]],
) -> None:
    pytest.importorskip("transformers")
    import torch
    from transformers import PreTrainedTokenizerFast, TextStreamer

    tokenizer, vocab = byte_level
    pieces: list[str] = []

    class Collecting(TextStreamer):  # type: ignore[misc, unused-ignore]
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: ARG002
            pieces.append(text)

    fast: Any = PreTrainedTokenizerFast
    theirs: Any = Collecting(fast(tokenizer_object=tokenizer), skip_special_tokens=True)
    ours = load(NAME, SOURCE).StreamingDetokenizer(vocab, special=[0, 1])
    for token_id in _token_ids(tokenizer, vocab, 7):
        theirs.put(torch.tensor([token_id]))
        ours.push(token_id)
    theirs.end()
    assert ours.text == "".join(pieces)


@pytest.mark.parametrize(
    "stops",
    [
        pytest.param(["END"], id="a word"),
        pytest.param(["\n\n", " and"], id="either of two"),
        pytest.param(["answer is not", "swer is 42", "r is not t"], id="overlapping"),
        pytest.param(["漢字", "🎉🎉"], id="several bytes"),
        pytest.param(["q"], id="a rare letter"),
        pytest.param(["never"], id="none"),
    ],
)
def test_a_stop_string_is_noticed_when_transformers_does(
    byte_level: tuple[Any, dict[int, bytes]], stops: list[str]
) -> None:
    """The answer ends with the same token, and its text before the stop string that ended it."""
    pytest.importorskip("transformers")
    import torch
    from transformers import PreTrainedTokenizerFast, StopStringCriteria

    tokenizer, vocab = byte_level
    module = load(NAME, SOURCE)
    ours = module.StreamingDetokenizer(vocab, module.StreamOptions(tuple(stops)), special=[0, 1])
    fast: Any = PreTrainedTokenizerFast
    theirs = StopStringCriteria(fast(tokenizer_object=tokenizer), stops)
    token_ids = [token_id for token_id in tokenizer.encode(TEXT).ids if token_id > 1]

    for n, token_id in enumerate(token_ids, start=1):
        event = ours.push(token_id)
        ended = bool(theirs(torch.tensor([token_ids[:n]]), torch.zeros(1, 1)))
        assert (event.finish_reason == "stop") == ended
        if ended:
            assert TEXT.startswith(ours.text + event.stop_reason)
            break
    assert ours.finish_reason == (None if stops == ["never"] else "stop")


# ----- rewrites


def _between(start: str, stop: str) -> str:
    """Return the part of the file from one text up to another."""
    begin = SOURCE.index(start)
    return SOURCE[begin : SOURCE.index(stop, begin)]


DECODER_OF_CODECS = (
    (
        '        self._held = b""  # the beginning of a character\n',
        '        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")\n',
    ),
    (
        _between("        data = self._held + data\n", "    def finish"),
        "        return self._decoder.decode(data)\n\n",
    ),
    (
        _between("        text = self._held.decode(", "\n\nclass StopMatcher"),
        '        text = self._decoder.decode(b"", final=True)\n'
        "        self._decoder.reset()\n"
        "        return text\n",
    ),
)
DECODING_BY_ERRORS = (
    (
        _between("        text, n_used = codecs", "    def finish"),
        '        text = ""\n'
        '        self._held = b""\n'
        "        while data:\n"
        "            try:\n"
        '                return text + data.decode("utf-8")\n'
        "            except UnicodeDecodeError as error:\n"
        '                text += data[: error.start].decode("utf-8")\n'
        '                if error.reason == "unexpected end of data":\n'
        "                    self._held = data[error.start :]\n"
        "                    break\n"
        '                text += "\\ufffd"\n'
        "                data = data[error.end :]\n"
        "        return text\n\n",
    ),
    (
        _between("        text = self._held.decode(", "\n\nclass StopMatcher"),
        '        text = "\\ufffd" if self._held else ""\n'
        "        self.__init__()\n"
        "        return text\n",
    ),
)
CHARACTER_BY_CHARACTER = (
    (
        _between("        text = self._held + text\n", "    def finish"),
        '        safe = ""\n'
        "        for character in text:\n"
        "            held = self._held + character\n"
        "            complete = [stop for stop in self.stops if held.endswith(stop)]\n"
        "            if complete:\n"
        "                self.matched = sorted(complete, key=len)[-1]\n"
        '                self._held = ""\n'
        "                if not self.include_stop:\n"
        "                    held = held[: -len(self.matched)]\n"
        "                return safe + held\n"
        "            while held and not any(stop.startswith(held) for stop in self.stops):\n"
        "                safe, held = safe + held[0], held[1:]\n"
        "            self._held = held\n"
        "        return safe\n\n",
    ),
)
BY_WHOLE_FRAMES = (
    (
        _between("        *lines, rest =", "\n\n@dataclass"),
        '        *frames, rest = (rest + chunk).replace("\\r", "").split("\\n\\n")\n'
        "        for frame in frames:\n"
        "            for line in frame.splitlines():\n"
        '                if line.startswith("data:"):\n'
        '                    data = line.removeprefix("data:").lstrip()\n'
        '                    if data == "[DONE]":\n'
        "                        return\n"
        "                    yield json.loads(data)\n",
    ),
    ("ensure_ascii=False", "ensure_ascii=True"),
    (
        _between("    running = set(range(len(choices)))", '    yield f"data: {DONE}'),
        "    n_running = len(choices)\n"
        "    steps = iter(steps)\n"
        "    while n_running > 0 and (step := next(steps, None)) is not None:\n"
        "        index, token_id = step\n"
        "        if index not in range(len(choices)):\n"
        "            raise ValueError(index)\n"
        "        if choices[index].finish_reason is None:\n"
        "            event = choices[index].push(token_id)\n"
        "            n_running -= event.finish_reason is not None\n"
        "            if event.finish_reason is not None or event.text:\n"
        "                yield sse(event, request_id, index)\n"
        "    for index, choice in enumerate(choices):\n"
        "        if choice.finish_reason is None:\n"
        "            yield sse(choice.close(), request_id, index)\n",
    ),
)
OTHER_IDIOMS = (
    (
        '        return "".join(self._pieces)',
        '        text = ""\n'
        "        for piece in self._pieces:\n"
        "            text += piece\n"
        "        return text",
    ),
    (
        _between("        beginnings = (stop[:n]", "\n\n# One answer."),
        "        for start in range(len(text)):\n"
        "            if any(stop.startswith(text[start:]) for stop in self.stops):\n"
        "                return len(text) - start\n"
        "        return 0\n",
    ),
    (
        _between("        ends = [(text.find", "\n    def _n_held"),
        "        for end in range(len(text) + 1):\n"
        "            for stop in sorted(self.stops, key=len, reverse=True):\n"
        "                if text.endswith(stop, 0, end):\n"
        "                    return end, stop\n"
        "        return None\n",
    ),
    (
        "        return self._matcher.finish() + self._assembler.finish()\n",
        "        tail = self._assembler.finish()\n"
        '        return "".join([self._matcher.finish(), tail])\n',
    ),
    (
        "        may_stop = n_tokens > self.options.min_new_tokens\n",
        "        may_stop = not n_tokens <= self.options.min_new_tokens\n"
        "        self.token_ids = [*self.token_ids]\n",
    ),
)


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param(DECODER_OF_CODECS, id="the decoder of codecs"),
        pytest.param(DECODING_BY_ERRORS, id="decoding by errors"),
        pytest.param(CHARACTER_BY_CHARACTER, id="character by character"),
        pytest.param(BY_WHOLE_FRAMES, id="by whole frames"),
        pytest.param(OTHER_IDIOMS, id="other idioms"),
    ],
)
def test_a_correct_rewrite_keeps_every_promise(edits: tuple[tuple[str, str], ...]) -> None:
    assert broken_promises(NAME, _edited(*edits), seed=1) == {}


# ----- wrong files


@pytest.mark.parametrize(
    ("edit", "promise"),
    [
        pytest.param(
            ('"replace", False)', '"replace", True)'),
            "test_characters_survive_any_cut",
            id="nothing waits",
        ),
        pytest.param(
            (
                "        self._held = text[n_safe:]\n        return text[:n_safe]",
                "        return text",
            ),
            "test_nothing_of_a_stop_string_is_sent_early",
            id="nothing is held",
        ),
        pytest.param(
            ("        return text[:n_safe]", '        return ""'),
            "test_no_more_is_held_than_may_become_a_stop_string",
            id="no text",
        ),
        pytest.param(
            ('return "".join(self._pieces)', 'return self._pieces[-1] if self._pieces else ""'),
            "test_characters_survive_any_cut",
            id="the last piece for the text",
        ),
        pytest.param(
            (
                '        return self._event(self._drain(), "abort")',
                '        return self._event("")',
            ),
            "test_held_text_is_sent_at_the_end",
            id="closing does nothing",
        ),
        pytest.param(
            (
                "StreamEvent(text, len(self.token_ids), finish",
                "StreamEvent(text, len(text), finish",
            ),
            "test_special_tokens_have_no_text_but_count",
            id="characters counted",
        ),
        pytest.param(
            ('        "index": index,\n', '        "index": 0,\n'),
            "test_several_answers_share_a_stream",
            id="one index for all",
        ),
        pytest.param(
            ('    yield f"data: {DONE}\\n\\n"\n', ""),
            "test_a_stream_ends_with_one_reason_and_done",
            id="never done",
        ),
        pytest.param(
            ("            yield json.loads(value)", "            yield {'text': value}"),
            "test_frames_are_read_however_they_are_cut",
            id="json as text",
        ),
        pytest.param(
            ('before + body["text"]', 'body["text"]'),
            "test_a_client_gets_what_was_sent",
            id="the last frame for the text",
        ),
    ],
)
def test_a_wrong_file_breaks_a_promise(edit: tuple[str, str], promise: str) -> None:
    assert breaks(NAME, _edited(edit), promise, seed=0)
