"""What the tokenizer promises: `subject` is the file under test, `seed` differs between runs.

The oracles learn and apply merges in the plainest way, one merge over all chunks after the other.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

_Pair = tuple[int, int]

# "ab", "abc", "bc", "aa", "aaa", " a", "12" in this order
MERGES = [(97, 98), (256, 99), (98, 99), (97, 97), (259, 97), (32, 97), (49, 50)]
SPECIALS = ["<eos>", "<eos>!", "[a|b]*", "<e"]  # ids 263 to 266
ODD_TEXTS = [
    "",
    "a",
    " ",
    "\n",
    "\u2028\ufeff" + "".join(map(chr, range(300))),
    "  two  spaces  ",
    "line\r\n\r\n\tline\n",
    "naïve Straße İstanbul ǅ ½ ² ٣٤٥٦",
    "日本語のテキスト、漢字。",
    "🎉👩‍👩‍👧‍👦🇫🇷 e\u0301\u0301 \U0010ffff\ue000",
    "don't 'twas ''s x_y __init__ 3.14159e-10 1,234,567",
    "\ufffd is a character like any other",
    "<eos>abc<eos>!",
]


def _merged(ids: Sequence[int], pair: _Pair, new_id: int) -> list[int]:
    out: list[int] = []
    for token_id in ids:
        # A fresh result at the end of `out` is no part of an occurrence: pair holds older ids.
        if out and (out[-1], token_id) == pair:
            out[-1] = new_id
        else:
            out.append(token_id)
    return out


def _learned(chunks: Sequence[str], n_merges: int) -> list[_Pair]:
    words = [(list(chunk.encode()), n) for chunk, n in Counter(chunks).items()]
    merges: list[_Pair] = []
    while len(merges) < n_merges:
        counts: Counter[_Pair] = Counter()
        for ids, n_occurrences in words:
            for pair in pairwise(ids):
                counts[pair] += n_occurrences
        ranking = [(-n, pair) for pair, n in counts.items() if n > 1]
        if not ranking:
            break
        pair = min(ranking)[1]
        words = [(_merged(ids, pair, 256 + len(merges)), n) for ids, n in words]
        merges.append(pair)
    return merges


def _encoded(chunk: str, merges: Sequence[_Pair]) -> list[int]:
    ids = list(chunk.encode())
    for rank, pair in enumerate(merges):
        ids = _merged(ids, pair, 256 + rank)
    return ids


def _random_merges(rng: random.Random, n_merges: int) -> list[_Pair]:
    """Return merges over the letters a, b and what came of them before."""
    merges: list[_Pair] = []
    while len(merges) < n_merges:
        known = [97, 98, *range(256, 256 + len(merges))]
        pair = rng.choice(known), rng.choice(known)
        if pair not in merges:
            merges.append(pair)
    return merges


def _pairs(merges: Sequence[Sequence[int]]) -> list[_Pair]:
    return [(left, right) for left, right in merges]


# ----- chunks


@pytest.mark.symptom("The same sentence costs more tokens than with the reference tokenizer.")
def test_texts_are_split_into_words_numbers_and_spaces(subject: Any) -> None:
    """Words and punctuation take one space along, numbers go by three digits, spaces remain."""
    for text, chunks in {
        "": [],
        "Hello world": ["Hello", " world"],
        "a  b   c": ["a", " ", " b", "  ", " c"],
        " a": [" a"],
        "a \n": ["a", " \n"],
        "a\n\nb\n": ["a", "\n", "\n", "b", "\n"],
        "\t\tx": ["\t", "\t", "x"],
        "ab12cd": ["ab", "12", "cd"],
        "1234567 89": ["123", "456", "7", " ", "89"],
        "12  345": ["12", " ", " ", "345"],
        "x = [1, 23]": ["x", " =", " [", "1", ",", " ", "23", "]"],
        "snake_case __x": ["snake", "_", "case", " __", "x"],
        "._. _!": ["._.", " _!"],
        "I'm you'll don't": ["I", "'m", " you", "'ll", " don", "'t"],
        "he's we've they're I'd": ["he", "'s", " we", "'ve", " they", "'re", " I", "'d"],
        "'quote' it'x": ["'", "quote", "'", " it", "'", "x"],
        "naïve Füße, 漢字": ["naïve", " Füße", ",", " 漢字"],
        "hey 🎉🎉!": ["hey", " 🎉🎉!"],
    }.items():
        assert list(subject.split_text(text)) == chunks


@pytest.mark.symptom("Rare characters disappear from prompts.")
def test_no_character_is_lost_in_splitting(subject: Any, seed: int) -> None:
    """The chunks of any text, one behind the other, are the text, and none is empty."""
    rng = random.Random(seed)
    alphabet = " \n\t'abstvelmdr019_.-é½²٣漢🎉\u0301\u00a0\u2028\x1c"
    drawn = ["".join(rng.choices(alphabet, k=30)) for _ in range(10)]

    for text in [*ODD_TEXTS, *drawn]:
        chunks = subject.split_text(text)
        assert "".join(chunks) == text
        assert all(chunks)


# ----- learning


@pytest.mark.symptom("Statistics over the corpus do not add up.")
def test_pairs_are_counted_in_every_occurrence_of_a_word(subject: Any) -> None:
    """A pair counts once per place in a word, times the occurrences of the word."""
    words = {(1, 2, 1, 2): 3, (2, 1): 5, (7, 7, 7): 2, (4,): 9, (): 1}
    counts = subject.count_pairs(words)

    assert dict(counts) == {(1, 2): 6, (2, 1): 8, (7, 7): 4}


@pytest.mark.symptom("Repeated letters are tokenized differently from the reference.")
def test_overlapping_occurrences_are_merged_from_the_left(subject: Any) -> None:
    """Every occurrence of a pair becomes the new token; of two that overlap only the left one."""
    cases: list[tuple[tuple[int, ...], _Pair, tuple[int, ...]]] = [
        ((5, 5, 5), (5, 5), (9, 5)),
        ((5, 5, 5, 5), (5, 5), (9, 9)),
        ((6, 5, 5, 5, 6), (5, 5), (6, 9, 5, 6)),
        ((1, 2, 1, 2), (1, 2), (9, 9)),
        ((1, 1, 2, 2), (1, 2), (1, 9, 2)),
        ((2, 1), (1, 2), (2, 1)),
        ((3, 1, 2), (1, 2), (3, 9)),
        ((1,), (1, 1), (1,)),
        ((), (1, 2), ()),
    ]
    for ids, pair, merged in cases:
        assert subject.merge_pair(ids, pair, 9) == merged


@pytest.mark.symptom("A newly trained vocabulary differs from that of other implementations.")
def test_merges_are_learned_most_frequent_first(subject: Any, seed: int) -> None:
    """Every merge is the most frequent pair after the earlier ones, of equal pairs the smaller."""
    rng = random.Random(seed)
    for letters in ("ab", "abc", "ézß"):
        lexicon = ["".join(rng.choices(letters, k=rng.randrange(1, 9))) for _ in range(9)]
        texts = [rng.choices(lexicon, k=rng.randrange(1, 9)) for _ in range(5)]
        chunks = [f" {word}" if i else word for text in texts for i, word in enumerate(text)]
        joined = [" ".join(text) for text in texts]
        for n_merges in (1, 12, 200):
            merges = _pairs(subject.train_merges(joined, n_merges))
            assert merges == _learned(chunks, n_merges)
    word = "".join(rng.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", k=320))
    merges = _pairs(subject.train_merges([word, word], 280))
    assert merges == _learned([word, word], 280)
    assert len(merges) > 260


@pytest.mark.symptom("The vocabulary is full of tokens that are never used.")
def test_pairs_that_occur_once_are_not_merged(subject: Any) -> None:
    """Learning ends where no pair occurs twice, or after n_merges merges."""
    assert _pairs(subject.train_merges(["abc def"], 9)) == []
    assert _pairs(subject.train_merges(["ab", "ab"], 9)) == [(97, 98)]
    assert _pairs(subject.train_merges(["xyxy"], 9)) == [(120, 121)]
    assert _pairs(subject.train_merges(["abab cd cd cd"], 1)) == [(32, 99)]
    assert _pairs(subject.train_merges(["aaaa"], 9)) == [(97, 97)]
    assert _pairs(subject.train_merges([], 9)) == []
    assert _pairs(subject.train_merges(["", "a b c"], 9)) == []
    assert _pairs(subject.train_merges(["abab"], 0)) == []


@pytest.mark.symptom("Fewer tokens than expected are learned from a file with one very long line.")
def test_training_builds_the_vocabulary_of_its_merges(subject: Any, seed: int) -> None:
    """A trained tokenizer has the bytes, what was learned, and the special tokens behind that."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abc", k=5)) for _ in range(20)]
    merges = _learned(words, 6)
    tokenizer = subject.BPETokenizer.train(words, 6, ["<eos>"])

    assert tokenizer.vocab_size == 256 + len(merges) + 1
    for word in words:
        assert tokenizer.encode(word) == _encoded(word, merges)
    assert tokenizer.encode("<eos>", "all") == [256 + len(merges)]
    assert subject.BPETokenizer.train(["<eos><eos>"], 0).vocab_size == 256


# ----- text to ids


@pytest.mark.symptom("The model answers worse than with the reference tokenizer, on some words.")
def test_merges_apply_in_the_order_they_were_learned(subject: Any, seed: int) -> None:
    """Of all merges that apply, the one learned first is next, in the whole chunk."""
    tokenizer = subject.BPETokenizer(MERGES)
    for text, ids in {
        "abc": [257],
        "bcabc": [258, 257],
        "aab": [97, 256],
        "aaaa": [259, 259],
        "aaaaa": [259, 260],
        "aa aaab": [259, 32, 259, 256],
        " a": [261],
        "1212": [262, 49, 50],
    }.items():
        assert tokenizer.encode_ordinary(text) == ids

    rng = random.Random(seed)
    for _ in range(6):
        merges = _random_merges(rng, 15)
        tokenizer = subject.BPETokenizer(merges)
        for _ in range(8):
            text = "".join(rng.choices("ab", k=rng.randrange(1, 40)))
            assert tokenizer.encode_ordinary(text) == _encoded(text, merges)


@pytest.mark.symptom("Words get other tokens depending on what stands next to them.")
def test_merges_never_cross_chunks(subject: Any) -> None:
    """No token reaches from one chunk into the next, neither in learning nor in encoding."""
    tokenizer = subject.BPETokenizer([(97, 32), (32, 98), (97, 44), (49, 50), (256, 98)])

    assert tokenizer.encode_ordinary("a b") == [97, 257]
    assert tokenizer.encode_ordinary("a,") == [97, 44]
    assert tokenizer.encode_ordinary("1112") == [49, 49, 49, 50]
    assert _pairs(subject.train_merges(["a,a,a,a,"] * 3, 9)) == []
    assert _pairs(subject.train_merges(["a b a b"], 9)) == [(32, 98)]
    assert _pairs(subject.train_merges(["a b a b a b"], 9)) == [(32, 98), (32, 97)]


@pytest.mark.symptom("Some users' texts come back changed.")
def test_every_text_survives_encoding_and_decoding(subject: Any, seed: int) -> None:
    """Decoding the ids of a text gives the text, whatever it consists of."""
    rng = random.Random(seed)
    tokenizer = subject.BPETokenizer.train(ODD_TEXTS, 60, SPECIALS)
    drawn = ["".join(chr(rng.choice([97, 32, 200, 0x4E00, 0x1F600])) for _ in range(20))]

    for text in ODD_TEXTS + drawn:
        ids = tokenizer.encode(text, "none")
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode_bytes(ids) == text.encode()
        assert tokenizer.decode(tokenizer.encode(text, "all")) == text
    assert tokenizer.encode("") == tokenizer.encode("", "all") == []


@pytest.mark.symptom("A prompt is tokenized differently the second time.")
def test_encoding_does_not_depend_on_earlier_calls(subject: Any) -> None:
    """A text always gets the same ids, whatever was encoded, cut or added around it before."""
    tokenizer = subject.BPETokenizer(MERGES, SPECIALS)
    for text, ids in [("abcbc", [257, 258]), ("x", [120]), (" aa", [32, 259])]:
        for _ in range(2):
            batch = tokenizer.encode_batch([text, text], bos=263, eos=264)
            assert batch == [[263, *ids, 264]] * 2
            assert tokenizer.encode_batch([text], max_length=1) == [ids[:1]]
            assert tokenizer.encode(text) == tokenizer.encode_ordinary(text) == ids
            assert tokenizer.encode(f"{text}<eos>{text}", "all") == [*ids, 263, *ids]
            assert tokenizer.encode_with_spans(text)[0] == ids


# ----- special tokens


@pytest.mark.symptom("A user who types <eos> ends the conversation.")
def test_special_tokens_count_only_where_allowed(subject: Any) -> None:
    """Text that looks like a special token is plain text unless that very token is allowed."""
    tokenizer = subject.BPETokenizer(MERGES, SPECIALS)
    text = "ab<eos>bc[a|b]*"
    eos, pattern = list(b"<eos>"), list(b"[a|b]*")

    plain = [256, *eos, 258, *pattern]
    assert tokenizer.encode(text) == tokenizer.encode(text, "none") == plain
    assert tokenizer.encode_ordinary(text) == tokenizer.encode(text, []) == plain
    assert tokenizer.encode(text, "all") == [256, 263, 258, 265]
    for allowed in (["<eos>"], ("<eos>",), {"<eos>", "<eos>!"}):
        assert tokenizer.encode(text, allowed) == [256, 263, 258, *pattern]
    assert tokenizer.encode(text, ["[a|b]*"]) == [256, *eos, 258, 265]
    assert tokenizer.encode_batch([text], allowed_special=["<eos>"]) == [[256, 263, 258, *pattern]]
    assert tokenizer.encode_batch([text]) == [plain]
    assert tokenizer.encode_with_spans(text)[0] == plain


@pytest.mark.symptom("Requests with forged special tokens are let through.")
def test_special_tokens_can_be_refused(subject: Any) -> None:
    """With "raise" a text with a special token anywhere is refused, and any other is plain."""
    tokenizer = subject.BPETokenizer(MERGES, SPECIALS)
    for text in ("<eos>", "ab <eos> ab", "x[a|b]*", "<eo", "a<e"):
        with pytest.raises(ValueError, match=r"."):
            tokenizer.encode(text, "raise")
        with pytest.raises(ValueError, match=r"."):
            tokenizer.encode_batch(["ab", text], allowed_special="raise")
    for text in ("", "ab", "eos> [a|b] < e", "[aab]"):
        assert tokenizer.encode(text, "raise") == tokenizer.encode_ordinary(text)


@pytest.mark.symptom("Chat markers that begin alike are confused.")
def test_the_longest_special_token_wins(subject: Any) -> None:
    """Where several special tokens start the longest counts, in whatever order they were added."""
    for specials in (SPECIALS, SPECIALS[::-1]):
        tokenizer = subject.BPETokenizer(MERGES, specials)
        short, long, _, shortest = (263 + specials.index(text) for text in SPECIALS)
        assert tokenizer.encode("<eos>!<eos>", "all") == [long, short]
        assert tokenizer.encode("<eos<eos>", "all") == [shortest, *b"os", short]
        assert tokenizer.encode("<eos>!", ["<eos>", "<e"]) == [short, 33]
        assert tokenizer.encode("<eos>!", ["<e"]) == [shortest, *b"os", *b">!"]


@pytest.mark.symptom("A chat template whose markers have brackets or dots breaks.")
def test_special_tokens_are_taken_literally(subject: Any) -> None:
    """Characters with a meaning in regular expressions have none in special tokens."""
    specials = [".", "a+", "(x)", "\\d", "^$", "{2}", " | "]
    tokenizer = subject.BPETokenizer([], specials)

    for i, special in enumerate(specials):
        assert tokenizer.encode(f"7{special}7", [special]) == [55, 256 + i, 55]
    assert tokenizer.encode("aa+(x).", "all") == [97, 257, 258, 256]
    assert tokenizer.encode("aax7 b|", "all") == list(b"aax7 b|")


@pytest.mark.symptom("Text beside a chat marker is tokenized as if the marker were a word.")
def test_text_around_special_tokens_is_encoded_on_its_own(subject: Any) -> None:
    """A special token ends the chunk before it and starts the one behind it, also side by side."""
    tokenizer = subject.BPETokenizer([(97, 98), (32, 32)], ["b", "<s>"])

    assert tokenizer.encode("ab", "all") == [97, 258]
    assert tokenizer.encode("ab", ["<s>"]) == [256]
    assert tokenizer.encode("a<s>b", ["<s>"]) == [97, 259, 98]
    assert tokenizer.encode("<s><s>ab<s>", ["<s>"]) == [259, 259, 256, 259]
    assert tokenizer.encode("x   <s>  x", ["<s>"]) == [120, 257, 32, 259, 32, 32, 120]


@pytest.mark.symptom("After adding a chat marker, another word is printed in its place.")
def test_special_ids_come_behind_all_others(subject: Any) -> None:
    """Special tokens get the next free ids in the order they are added, and change no other id."""
    tokenizer = subject.BPETokenizer(MERGES[:2], ["<b>", "<a>"])
    assert tokenizer.vocab_size == 260
    assert tokenizer.encode("abc<a><b><c>", "all") == [257, 259, 258, *b"<c>"]

    assert tokenizer.add_special("<c>") == 260
    assert tokenizer.add_special("ab") == 261
    assert tokenizer.vocab_size == 262
    assert tokenizer.encode("abc<a><b><c>", "all") == [261, 99, 259, 258, 260]
    assert tokenizer.encode("abc") == [257]
    assert [tokenizer.decode([i]) for i in (256, 257, 258, 259, 260, 261)] == [
        "ab",
        "abc",
        "<b>",
        "<a>",
        "<c>",
        "ab",
    ]
    assert subject.BPETokenizer().add_special("é") == 256
    for special in ("", "<a>", "<c>"):
        with pytest.raises(ValueError, match=r"."):
            tokenizer.add_special(special)
    assert tokenizer.vocab_size == 262


# ----- where tokens lie in the text


@pytest.mark.symptom("The highlighted words are shifted in texts with emoji.")
def test_spans_are_the_characters_a_token_has_bytes_of(subject: Any, seed: int) -> None:
    """The span of a token holds exactly the characters of which it has a byte."""
    merges = [(0xF0, 0x9F), (0xA9, 32), (97, 0xC3), (0x8E, 0x89), (0x9F, 0x8E), *MERGES[:1]]
    merges += [(0xB9, 97), (0xBC, 0xC3)]  # from one character into the next
    tokenizer = subject.BPETokenizer(merges, specials := ["<é>", "b"])
    token_bytes = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        token_bytes.append(token_bytes[left] + token_bytes[right])
    token_bytes += [special.encode() for special in specials]
    rng = random.Random(seed)
    drawn = ["".join(rng.choices("ab é漢🎉\n", k=12)) for _ in range(6)]

    for text in ["", "abc", "é a🎉🎉aé漢é", "üüùa", "<é>x<é>", *drawn]:
        ends = [len(text[: i + 1].encode()) for i in range(len(text))]
        for allowed in ("none", "all"):
            ids, spans = tokenizer.encode_with_spans(text, allowed)
            assert ids == tokenizer.encode(text, allowed)
            want, stop = [], 0
            for token_id in ids:
                start, stop = stop, stop + len(token_bytes[token_id])
                touched = [
                    i
                    for i, (first, end) in enumerate(zip([0, *ends], ends, strict=False))
                    if first < stop and start < end
                ]
                want.append((touched[0], touched[-1] + 1))
            assert [tuple(span) for span in spans] == want


# ----- ids to text


@pytest.mark.symptom("Emoji and accents come out as question marks.")
def test_characters_split_over_tokens_are_put_together(subject: Any) -> None:
    """Ids are joined as bytes before they become text; what is no UTF-8 becomes U+FFFD."""
    tokenizer = subject.BPETokenizer([(0xF0, 0x9F)], ["é"])

    assert tokenizer.decode(list("é漢🎉".encode())) == "é漢🎉"
    assert tokenizer.decode([256, 0x8E, 0x89, 257]) == "🎉é"
    assert tokenizer.decode([97, 0xFF, 98]) == "a\ufffdb"
    assert tokenizer.decode([0xA9, 97]) == "\ufffda"
    assert tokenizer.decode([256, 97]) == "\ufffda"
    assert tokenizer.decode([97, 256, 0x8E]) == "a\ufffd"
    assert tokenizer.decode_bytes([256, 0xFF, 257]) == b"\xf0\x9f\xff\xc3\xa9"
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode_bytes([]) == b""


@pytest.mark.symptom("Answers end in <eos>, although it should be hidden.")
def test_special_tokens_can_be_left_out_of_a_text(subject: Any) -> None:
    """Special tokens decode to their text, or with skip_special to nothing; others stay."""
    tokenizer = subject.BPETokenizer(MERGES[:2], ["<eos>", "abc"])
    ids = [258, 97, 257, 258, 0xC3, 259, 0xA9, 0, 258]

    assert tokenizer.decode(ids[:4]) == "<eos>aabc<eos>"
    assert tokenizer.decode(ids, skip_special=True) == "aabcé\0"
    assert tokenizer.decode_bytes(ids) == b"<eos>aabc<eos>\xc3abc\xa9\0<eos>"
    assert tokenizer.decode_bytes(ids, skip_special=True) == b"aabc\xc3\xa9\0"
    assert tokenizer.decode(ids[4:]) == "\ufffdabc\ufffd\0<eos>"


@pytest.mark.symptom("An id from another model's vocabulary is printed as some word.")
def test_ids_outside_the_vocabulary_are_refused(subject: Any) -> None:
    """Ids below 0 or from vocab_size on raise ValueError, skipped or not."""
    tokenizer = subject.BPETokenizer(MERGES[:2], ["<eos>"])
    assert tokenizer.decode([258]) == "<eos>"
    for token_id in (-1, -259, 259, 10_000):
        for skip_special in (False, True):
            with pytest.raises(ValueError, match=r"."):
                tokenizer.decode([97, token_id], skip_special=skip_special)
            with pytest.raises(ValueError, match=r"."):
                tokenizer.decode_bytes([token_id], skip_special=skip_special)
    assert subject.BPETokenizer().decode([255, 0]) == "\ufffd\0"
    with pytest.raises(ValueError, match=r"."):
        subject.BPETokenizer().decode([256])


# ----- batches


@pytest.mark.symptom("Long prompts lose their end instead of their beginning.")
def test_truncation_keeps_the_requested_side_and_the_frame(subject: Any) -> None:
    """No row exceeds max_length, and bos and eos, whatever their ids, are always there."""
    tokenizer = subject.BPETokenizer([], ["<eos>"])
    texts = ["abcd", "", "ab", "xyz<eos>"]
    rows = [[*b"abcd"], [], [*b"ab"], [*b"xyz", 256]]

    for bos, eos in [(None, None), (0, None), (None, 0), (5, 0), (0, 256)]:
        first = [] if bos is None else [bos]
        last = [] if eos is None else [eos]
        n_added = len(first) + len(last)
        given = {"bos": bos, "eos": eos, "allowed_special": "all"}
        whole = [first + row + last for row in rows]
        assert tokenizer.encode_batch(texts, **given) == whole
        assert tokenizer.encode_batch([], **given) == []
        for room in (0, 1, 2, 5):
            left = [first + row[len(row) - min(room, len(row)) :] + last for row in rows]
            right = [first + row[:room] + last for row in rows]
            given["max_length"] = room + n_added
            assert tokenizer.encode_batch(texts, **given) == right
            assert tokenizer.encode_batch(texts, truncation_side="left", **given) == left
        assert tokenizer.encode_batch(texts, truncation_side="right", **given) == right
        for max_length in range(-1, n_added):
            given["max_length"] = max_length
            with pytest.raises(ValueError, match=r"."):
                tokenizer.encode_batch(texts, **given)


# ----- files


@pytest.mark.symptom("After a restart the server tokenizes differently.")
def test_a_saved_tokenizer_comes_back_the_same(subject: Any, seed: int) -> None:
    """Merges, their order, and special tokens with any characters survive saving and loading."""
    rng = random.Random(seed)
    merges = _random_merges(rng, 30)
    specials = ["<eos>", "two\nlines\r\n", ' "quoted" \\n ', "\u2028\x85\x0c", "🎉é", "7 8", "[]"]
    tokenizer = subject.BPETokenizer(merges, specials)
    tokenizer.add_special("<late>")
    other = subject.BPETokenizer.from_text(tokenizer.to_text())

    assert other.vocab_size == 256 + 30 + 8
    for text in ["".join(rng.choices("ab", k=30)) for _ in range(8)]:
        assert other.encode(text) == _encoded(text, merges)
    for i, special in enumerate([*specials, "<late>"]):
        assert other.encode(special, "all") == [286 + i]
        assert other.decode([286 + i]) == special
    assert other.decode([*range(97, 99), 286], skip_special=True) == "ab"
    for bare in (
        subject.BPETokenizer(),
        subject.BPETokenizer(MERGES),
        subject.BPETokenizer([], ["x"]),
    ):
        again = subject.BPETokenizer.from_text(bare.to_text())
        assert again.vocab_size == bare.vocab_size
        assert again.encode("abcx", "all") == bare.encode("abcx", "all")


@pytest.mark.symptom("A half-copied vocabulary file is loaded without complaint.")
def test_incomplete_files_are_refused(subject: Any) -> None:
    """What is not a saved tokenizer, or only the beginning of one, raises ValueError."""
    content = subject.BPETokenizer([(97, 98), (256, 99), (98, 110)], ["<a>", "b"]).to_text()
    assert subject.BPETokenizer.from_text(content).vocab_size == 261

    wrong = [content[:n] for n in range(len(content)) if n % 3 == 0 or n > len(content) - 8]
    wrong += ["\n", "a\nb\n", "0 0\n", "x" + content, content + content, content + "x"]
    wrong += [content[0] + content[2:], content + "97 99\n"]
    for text in wrong:
        with pytest.raises(ValueError, match=r"."):
            subject.BPETokenizer.from_text(text)


# ----- misuse


@pytest.mark.symptom("A mistake in a configuration goes unnoticed until answers are garbage.")
def test_misuse_is_refused(subject: Any) -> None:
    """Impossible merges, tokens and options raise ValueError; the nearest possible ones do not."""
    for merges in (
        [(97, 256)],
        [(256, 97)],
        [(-1, 97)],
        [(97, -1)],
        [(97, 98), (257, 98)],
        [(300, 97)],
        [(97, 300)],
    ):
        with pytest.raises(ValueError, match=r"."):
            subject.BPETokenizer(merges)
    with pytest.raises(ValueError, match=r"."):
        subject.BPETokenizer([(97, 98), (98, 97), (97, 98)])
    assert subject.BPETokenizer([(255, 0), (0, 256), (257, 257)]).vocab_size == 259
    for specials in (["<s>", "<s>"], [""], ["a", "b", "a"]):
        with pytest.raises(ValueError, match=r"."):
            subject.BPETokenizer([], specials)
    with pytest.raises(ValueError, match=r"."):
        subject.train_merges(["abab"], -1)
    with pytest.raises(ValueError, match=r"."):
        subject.BPETokenizer.train(["abab"], -1)

    tokenizer = subject.BPETokenizer([], ["<s>"])
    for allowed in ("some", "<s>", "", ["<t>"], {"<s>", "a"}):
        with pytest.raises(ValueError, match=r"."):
            tokenizer.encode("a<s>", allowed)
    for how in (
        {"truncation_side": "middle"},
        {"truncation_side": "", "max_length": 1},
        {"bos": -1},
        {"eos": 257},
        {"bos": 257, "eos": 0},
    ):
        with pytest.raises(ValueError, match=r"."):
            tokenizer.encode_batch(["abc"], **how)
    assert tokenizer.encode_batch(texts=["a"], bos=256, eos=0) == [[256, 97, 0]]
