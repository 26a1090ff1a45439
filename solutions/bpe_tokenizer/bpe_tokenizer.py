"""Byte-level byte pair encoding: text to token ids and back, and how the merges are learned.

A text is split into chunks (words, numbers, runs of spaces), a chunk is the bytes of its UTF-8, and
learned merges join neighbouring tokens of a chunk again and again. Every text has an encoding, as
every byte is a token. Special tokens stand for what is no text, such as the end of a turn.

References: byte pair encoding, Sennrich et al., arXiv:1508.07909; over bytes, Radford et al.,
"Language Models are Unsupervised Multitask Learners" (GPT-2).
"""

from __future__ import annotations

import heapq
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

Pair = tuple[int, int]
Span = tuple[int, int]

N_BYTES = 256  # ids below are the bytes themselves
ABSORBED = -1  # in place of a token that has become part of the one before it
MAX_CACHED_CHUNKS = 50_000
FILE_FORMAT = "byte-level bpe, version 1"

SPLIT = re.compile(
    r"'(?:[sdmt]|ll|ve|re)"  # I'm, you'll
    r"| ?[^\W\d_]+"  # words
    r"|\d{1,3}"  # numbers
    r"| ?(?:[^\s\w]|_)+"  # punctuation, symbols, emoji
    r"|\s+(?!\S)|\s+"
)


def split_text(text: str) -> list[str]:
    """Cut a text into the chunks that merges never join.

    Words and punctuation take one space before them along, numbers come as groups of up to three
    digits from the left, and what remains of the spaces between two words is a chunk of its own.

    >>> split_text("Tom's  cat, 1234")
    ['Tom', "'s", ' ', ' cat', ',', ' ', '123', '4']
    """
    return SPLIT.findall(text)


# Learning merges.


def count_pairs(words: Mapping[tuple[int, ...], int]) -> Counter[Pair]:
    """Count neighbouring tokens in all words; `words` says how often each word occurs."""
    counts: Counter[Pair] = Counter()
    for ids, n_occurrences in words.items():
        for pair in pairwise(ids):
            counts[pair] += n_occurrences
    return counts


def merge_pair(ids: Sequence[int], pair: Pair, new_id: int) -> tuple[int, ...]:
    """Replace a pair by one token wherever it occurs; of overlapping occurrences the left one.

    >>> merge_pair([5, 5, 5, 6], (5, 5), 300)
    (300, 5, 6)
    """
    merged: list[int] = []
    i = 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return tuple(merged)


def train_merges(texts: Iterable[str], n_merges: int) -> list[Pair]:
    """Learn up to n_merges merges, each the pair that is most frequent after those before it.

    Of equally frequent pairs the smaller pair of ids is taken. Learning ends early when no pair
    occurs twice.
    """
    if n_merges < 0:
        raise ValueError(f"n_merges must not be negative, got {n_merges}")
    occurrences = Counter(tuple(chunk.encode()) for text in texts for chunk in split_text(text))
    words = list(occurrences)  # as the merges so far have left them
    counts = count_pairs(occurrences)
    words_with: defaultdict[Pair, set[int]] = defaultdict(set)  # indices of words
    for index, ids in enumerate(words):
        for pair in pairwise(ids):
            words_with[pair].add(index)
    n_occurrences = list(occurrences.values())

    merges: list[Pair] = []
    while counts and len(merges) < n_merges:
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        if counts[best] < 2:
            break
        new_id = N_BYTES + len(merges)
        merges.append(best)
        for index in words_with.pop(best):
            before, after = words[index], merge_pair(words[index], best, new_id)
            for pair in pairwise(before):
                counts[pair] -= n_occurrences[index]
            for pair in pairwise(after):
                counts[pair] += n_occurrences[index]
                words_with[pair].add(index)
            words[index] = after
    return merges


class BPETokenizer:
    """A vocabulary with its merges: bytes first, then merges as they were learned, then specials.

    With two merges:

        tokenizer = BPETokenizer([(104, 105), (256, 33)], ["<eos>"])    # "hi" and "hi!"
        tokenizer.encode("hi!hi<eos>")                          # [257, 256, 60, 101, 111, 115, 62]
        tokenizer.encode("hi!hi<eos>", allowed_special="all")   # [257, 256, 258]
        tokenizer.decode([257, 256, 258])                       # "hi!hi<eos>"
    """

    def __init__(self, merges: Iterable[Pair] = (), special_tokens: Iterable[str] = ()) -> None:
        """Build the vocabulary; a merge may join bytes and the results of earlier merges."""
        self.merges: dict[Pair, int] = {}  # pair -> id of its result
        self.special_tokens: dict[str, int] = {}
        self.token_bytes = [bytes([byte]) for byte in range(N_BYTES)]  # of every id
        for left, right in merges:
            new_id = len(self.token_bytes)
            if not (0 <= left < new_id and 0 <= right < new_id):
                raise ValueError(f"merge ({left}, {right}) joins an id that is not below {new_id}")
            if (left, right) in self.merges:
                raise ValueError(f"merge ({left}, {right}) is there twice")
            self.merges[left, right] = new_id
            self.token_bytes.append(self.token_bytes[left] + self.token_bytes[right])
        self.n_ordinary = len(self.token_bytes)
        for special in special_tokens:
            self.add_special(special)
        self._cache: dict[str, list[int]] = {}  # chunk -> its ids

    @classmethod
    def train(
        cls, texts: Iterable[str], n_merges: int, special_tokens: Iterable[str] = ()
    ) -> BPETokenizer:
        """Learn a tokenizer from texts, in which special tokens are nothing special."""
        return cls(train_merges(texts, n_merges), special_tokens)

    def add_special(self, special: str) -> int:
        """Add a special token behind all others and return its id."""
        if not special or special in self.special_tokens:
            raise ValueError(f"special token {special!r} is empty or already there")
        new_id = len(self.token_bytes)
        self.token_bytes.append(special.encode())
        self.special_tokens[special] = new_id
        return new_id

    @property
    def vocab_size(self) -> int:
        """Return how many ids there are, special ones included."""
        return len(self.token_bytes)

    # Text to ids.

    def encode_ordinary(self, text: str) -> list[int]:
        """Encode a text in which special tokens are plain text, as in what users write."""
        ids: list[int] = []
        for chunk in split_text(text):
            ids.extend(self._encode_chunk(chunk))
        return ids

    def encode(self, text: str, allowed_special: str | Collection[str] = "none") -> list[int]:
        """Encode a text; the special tokens in it that are allowed become their ids.

        `allowed_special` is "all", "none", "raise" (refuse a text that contains one), or a
        collection of special tokens. Those not allowed are plain text. Where several could start,
        the longest counts.
        """
        allowed = self._allowed(text, allowed_special)
        if not allowed:
            return self.encode_ordinary(text)
        longest_first = sorted(allowed, key=len, reverse=True)
        pattern = "|".join(re.escape(special) for special in longest_first)
        ids: list[int] = []
        start = 0
        for match in re.finditer(pattern, text):
            ids += self.encode_ordinary(text[start : match.start()])
            ids.append(self.special_tokens[match.group()])
            start = match.end()
        return ids + self.encode_ordinary(text[start:])

    def encode_with_spans(
        self, text: str, allowed_special: str | Collection[str] = "none"
    ) -> tuple[list[int], list[Span]]:
        """Encode a text and say where in it each token lies.

        A span [start, stop) holds the characters of which the token has at least one byte, so that
        tokens that share a character have spans that overlap.
        """
        ids = self.encode(text, allowed_special)
        char_of_byte = [i for i, char in enumerate(text) for _ in char.encode()]
        spans: list[Span] = []
        n_bytes = 0
        for token_id in ids:
            first = n_bytes
            n_bytes += len(self.token_bytes[token_id])
            spans.append((char_of_byte[first], char_of_byte[n_bytes - 1] + 1))
        return ids, spans

    def encode_batch(
        self,
        texts: Iterable[str],
        *,
        max_length: int | None = None,
        truncation_side: Literal["left", "right"] = "right",
        bos: int | None = None,
        eos: int | None = None,
        allowed_special: str | Collection[str] = "none",
    ) -> list[list[int]]:
        """Encode texts, each between the ids bos and eos where given.

        No result is longer than max_length, bos and eos included; what is too long loses tokens of
        its text on the truncation side.
        """
        if truncation_side not in ("left", "right"):
            raise ValueError(f"truncation_side {truncation_side!r} is neither 'left' nor 'right'")
        added = [token_id for token_id in (bos, eos) if token_id is not None]
        for token_id in added:
            self._check_id(token_id)
        if max_length is not None and max_length < len(added):
            raise ValueError(f"max_length {max_length} has no room for bos and eos")
        rows: list[list[int]] = []
        for text in texts:
            ids = self.encode(text, allowed_special)
            if max_length is not None:
                excess = max(len(ids) + len(added) - max_length, 0)
                ids = ids[excess:] if truncation_side == "left" else ids[: len(ids) - excess]
            if bos is not None:
                ids.insert(0, bos)
            if eos is not None:
                ids.append(eos)
            rows.append(ids)
        return rows

    def _allowed(self, text: str, allowed_special: str | Collection[str]) -> Collection[str]:
        """Return the special tokens to look for in a text."""
        match allowed_special:
            case "all":
                return self.special_tokens
            case "none":
                return ()
            case "raise":
                for special in self.special_tokens:
                    if special in text:
                        raise ValueError(f"the text contains the special token {special!r}")
                return ()
            case str():
                raise ValueError(f"allowed_special {allowed_special!r} is not understood")
        for special in allowed_special:
            if special not in self.special_tokens:
                raise ValueError(f"{special!r} is no special token")
        return allowed_special

    def _encode_chunk(self, chunk: str) -> list[int]:
        ids = self._cache.get(chunk)
        if ids is None:
            ids = self._apply_merges(chunk.encode())
            if len(self._cache) < MAX_CACHED_CHUNKS:
                self._cache[chunk] = ids
        return ids

    def _apply_merges(self, data: bytes) -> list[int]:
        """Merge the bytes of a chunk until no merge applies, earlier learned merges first.

        A token is known by the place of its first byte, and the tokens form a linked list, so that
        chunks without a space in them, as in Chinese, do not take quadratic time.
        """
        ids = list(data)
        n_bytes = len(ids)
        following = list(range(1, n_bytes + 1))  # place of the next token
        preceding = list(range(-1, n_bytes - 1))
        queue: list[Pair] = []  # (id of the result, place of the left token)

        def offer(left: int, right: int) -> None:
            if left >= 0 and right < n_bytes:
                new_id = self.merges.get((ids[left], ids[right]))
                if new_id is not None:
                    heapq.heappush(queue, (new_id, left))

        for place in range(n_bytes):
            offer(place, following[place])
        while queue:
            new_id, left = heapq.heappop(queue)
            right = following[left]
            # Other merges may have taken one of the two since the offer.
            if right == n_bytes or self.merges.get((ids[left], ids[right])) != new_id:
                continue
            ids[left], ids[right] = new_id, ABSORBED
            following[left] = following[right]
            if following[left] < n_bytes:
                preceding[following[left]] = left
            offer(preceding[left], left)
            offer(left, following[left])
        return [token_id for token_id in ids if token_id != ABSORBED]

    # Ids to text.

    def decode_bytes(self, ids: Iterable[int], skip_special: bool = False) -> bytes:
        """Return the bytes that ids stand for; those of one token may end within a character."""
        pieces: list[bytes] = []
        for token_id in ids:
            self._check_id(token_id)
            if token_id < self.n_ordinary or not skip_special:
                pieces.append(self.token_bytes[token_id])
        return b"".join(pieces)

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """Return the text that ids stand for; what is no UTF-8 becomes U+FFFD."""
        return self.decode_bytes(ids, skip_special).decode(errors="replace")

    def _check_id(self, token_id: int) -> None:
        if not 0 <= token_id < self.vocab_size:
            raise ValueError(f"id {token_id} is not in [0, {self.vocab_size})")

    # To a file and back.

    def to_text(self) -> str:
        """Return the content of a file from which `from_text` makes the same tokenizer."""
        lines = [FILE_FORMAT, f"{len(self.special_tokens)} {len(self.merges)}"]
        lines += [json.dumps(special) for special in self.special_tokens]
        lines += [f"{left} {right}" for left, right in self.merges]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_text(cls, content: str) -> BPETokenizer:
        """Make a tokenizer from the content of a file; one that is incomplete is refused."""
        lines = content.split("\n")
        if lines[0] != FILE_FORMAT or lines[-1] != "":
            raise ValueError(f"this is not, or not all of, a file in the format {FILE_FORMAT!r}")
        n_specials, n_merges = map(int, lines[1].split())
        if len(lines) != 3 + n_specials + n_merges:
            raise ValueError(f"{len(lines)} lines for {n_specials} specials, {n_merges} merges")
        specials = [json.loads(line) for line in lines[2 : 2 + n_specials]]
        pairs = [line.split() for line in lines[2 + n_specials : -1]]
        return cls([(int(left), int(right)) for left, right in pairs], specials)
