"""The tokenizer against tokenizers and tiktoken, and its promises against rewrites, wrong files."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading

NAME = "bpe_tokenizer"
SOURCE = source_of(NAME)
SPECIALS = ["<eos>", "<|im_start|>", "<é>"]
TEXT = (
    "Byte pair encoding (BPE) was first described by Philip Gage in 1994, for data compression.\n"
    "A tokenizer that isn't tested on naïve users' texts, say 1234567 of them, won't survive: \n\n"
    "  Straße, İstanbul, 日本語のテキスト、漢字。 🎉👩‍👩‍👧‍👦 \t x_y = __init__(3.14159e-10) ..  \n"
    "they're we've you'll I'd 'quoted' 'twas <eos >  the the the then there these encoding encoded "
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


# ----- against tokenizers and tiktoken


def _texts(seed: int) -> list[str]:
    """Return pieces of the text with special tokens strewn in, and texts over few characters."""
    rng = random.Random(seed)
    texts = []
    for _ in range(20):
        start = rng.randrange(len(TEXT))
        pieces = [TEXT[start : start + rng.randrange(60)], *rng.choices(SPECIALS, k=2)]
        rng.shuffle(pieces)
        texts.append("".join(pieces))
        texts.append("".join(rng.choices(" \n\t'abstve019_.é日🎉", k=40)))
    return texts


def _name(data: bytes) -> str:
    """Write bytes as GPT-2 does: printable ones as themselves, the others from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in names]
    names |= {byte: chr(256 + i) for i, byte in enumerate(others)}
    return "".join(names[byte] for byte in data)


def _in_tokenizers(module: Any, ours: Any) -> Any:
    """Return a tokenizer of the package tokenizers with our merges and special tokens."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import decoders, models, pre_tokenizers

    vocab = {_name(data): i for i, data in enumerate(ours.token_bytes[: ours.n_ordinary])}
    assert len(vocab) == ours.n_ordinary
    names = list(vocab)
    merges = [(names[left], names[right]) for left, right in ours.merges]
    theirs = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    split = pre_tokenizers.Split(tokenizers.Regex(module.SPLIT.pattern), "isolated")
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    theirs.pre_tokenizer = pre_tokenizers.Sequence([split, in_bytes])
    theirs.decoder = decoders.ByteLevel()
    theirs.add_special_tokens(
        [tokenizers.AddedToken(text, normalized=False, special=True) for text in SPECIALS]
    )
    return theirs


@pytest.mark.parametrize("n_merges", [0, 40, 300])
def test_ids_spans_and_texts_agree_with_tokenizers(n_merges: int) -> None:
    module = load(NAME, SOURCE)
    ours = module.BPETokenizer.train([TEXT], n_merges, SPECIALS)
    theirs = _in_tokenizers(module, ours)

    for text in [TEXT, *_texts(n_merges)]:
        want = theirs.encode(text, add_special_tokens=False)
        ids, spans = ours.encode_with_spans(text, "all")
        assert ids == want.ids
        assert spans == want.offsets
        cut = ids[1:-1]  # within characters, too
        assert ours.decode(cut, skip_special=True) == theirs.decode(cut, skip_special_tokens=True)


@pytest.mark.parametrize("side", ["left", "right"])
def test_truncation_agrees_with_tokenizers(side: str) -> None:
    from tokenizers import processors

    module = load(NAME, SOURCE)
    ours = module.BPETokenizer.train([TEXT], 100, SPECIALS)
    theirs = _in_tokenizers(module, ours)
    bos, eos = (ours.special_tokens[text] for text in SPECIALS[:2])
    theirs.post_processor = processors.TemplateProcessing(
        single=f"{SPECIALS[0]} $A {SPECIALS[1]}",
        special_tokens=[(SPECIALS[0], bos), (SPECIALS[1], eos)],
    )

    texts = ["", "a", *_texts(7)]
    for max_length in (3, 10, 25):
        theirs.enable_truncation(max_length, direction=side)
        want = [encoding.ids for encoding in theirs.encode_batch(texts)]
        got = ours.encode_batch(
            texts,
            max_length=max_length,
            truncation_side=side,
            bos=bos,
            eos=eos,
            allowed_special="all",
        )
        assert got == want


@pytest.mark.parametrize("n_merges", [0, 40, 300])
def test_ids_and_texts_agree_with_tiktoken(n_merges: int) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    module = load(NAME, SOURCE)
    whole = TEXT.replace("\u200d", "")  # the joiner of emoji counts as a letter to tiktoken alone
    ours = module.BPETokenizer.train([whole], n_merges, SPECIALS)
    theirs = tiktoken.Encoding(
        "ours",
        pat_str=module.SPLIT.pattern,
        mergeable_ranks={data: i for i, data in enumerate(ours.token_bytes[: ours.n_ordinary])},
        special_tokens=ours.special_tokens,
    )

    for text in [whole, *(other.replace("\u200d", "") for other in _texts(n_merges))]:
        for special in SPECIALS:
            want = theirs.encode(text, allowed_special={special}, disallowed_special=())
            assert ours.encode(text, {special}) == want
        ids = theirs.encode(text, allowed_special="all")
        assert ours.encode(text, "all") == ids
        assert ours.encode_ordinary(text) == theirs.encode_ordinary(text)
        assert ours.decode_bytes(ids[1:-1]) == theirs.decode_bytes(ids[1:-1])
        if any(special in text for special in SPECIALS):
            with pytest.raises(ValueError, match="disallowed special"):
                theirs.encode(text)
            with pytest.raises(ValueError, match="contains the special token"):
                ours.encode(text, "raise")


@pytest.mark.parametrize("letters", ["ab", "abc", "abcdefg"])
def test_merges_are_learned_as_in_tokenizers(letters: str) -> None:
    """Over letters alone, where its ids have the order of ours."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import models, pre_tokenizers, trainers

    module = load(NAME, SOURCE)
    rng = random.Random(len(letters))
    for _ in range(20):
        words = ["".join(rng.choices(letters, k=rng.randrange(1, 9))) for _ in range(30)]
        theirs = tokenizers.Tokenizer(models.BPE())
        theirs.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.BpeTrainer(
            vocab_size=len(letters) + 40,
            min_frequency=2,
            initial_alphabet=list(letters),
            show_progress=False,
        )
        theirs.train_from_iterator(words, trainer)
        want = [tuple(merge) for merge in json.loads(theirs.to_str())["model"]["merges"]]
        merges = module.train_merges(words, 40)
        names = [data.decode(errors="replace") for data in module.BPETokenizer(merges).token_bytes]
        assert [(names[left], names[right]) for left, right in merges] == want


def test_a_chunk_without_spaces_takes_no_quadratic_time() -> None:
    """Ten times as many letters in one chunk take about ten times as many look-ups of merges."""
    module = load(NAME, SOURCE)
    tokenizer = module.BPETokenizer([(97, 98), (98, 97), (256, 256), (258, 258), (97, 97)])

    class Counting(dict[Any, int]):
        looked_up = 0

        def get(self, *args: Any) -> Any:
            self.looked_up += 1
            return super().get(*args)

    costs = []
    for n in (300, 3000):
        tokenizer.merges = Counting(tokenizer.merges)
        text = "".join(random.Random(n).choices("ab", k=n))
        assert tokenizer.decode(tokenizer.encode(text)) == text
        costs.append(tokenizer.merges.looked_up)
    assert 8 < costs[1] / costs[0] < 12


# ----- rewrites


_START_OF_QUEUE = SOURCE.index("        ids = list(data)\n")
_END_OF_QUEUE = SOURCE.index("    # Ids to text.")
_START_OF_TRAINING = SOURCE.index("    words = list(occurrences)")
_END_OF_TRAINING = SOURCE.index("class BPETokenizer:")

ROUNDS_OF_MERGES = (
    (
        SOURCE[_START_OF_QUEUE:_END_OF_QUEUE],
        "        ids = tuple(data)\n"
        "        while len(ids) > 1:\n"
        "            pairs = set(pairwise(ids)) & self.merges.keys()\n"
        "            if not pairs:\n"
        "                break\n"
        "            pair = min(pairs, key=self.merges.__getitem__)\n"
        "            ids = merge_pair(ids, pair, self.merges[pair])\n"
        "        return list(ids)\n\n",
    ),
)
COUNTED_ANEW = (
    (
        SOURCE[_START_OF_TRAINING:_END_OF_TRAINING],
        "    merges = []\n"
        "    while len(merges) < n_merges:\n"
        "        frequent = [(-n, pair) for pair, n in count_pairs(occurrences).items() if n > 1]\n"
        "        if not frequent:\n"
        "            break\n"
        "        _, pair = sorted(frequent)[0]\n"
        "        new_id = N_BYTES + len(merges)\n"
        "        merges.append(pair)\n"
        "        occurrences = {merge_pair(w, pair, new_id): n for w, n in occurrences.items()}\n"
        "    return merges\n\n\n",
    ),
    (
        "    counts: Counter[Pair] = Counter()\n",
        "    counts: dict[Pair, int] = defaultdict(int)\n",
    ),
)
SPECIALS_BY_SCANNING = (
    (
        "        for match in re.finditer(pattern, text):\n"
        "            ids += self.encode_ordinary(text[start : match.start()])\n"
        "            ids.append(self.special_tokens[match.group()])\n"
        "            start = match.end()\n",
        "        assert pattern\n"
        "        i = 0\n"
        "        while i < len(text):\n"
        "            found = next((s for s in longest_first if text.startswith(s, i)), None)\n"
        "            if found is None:\n"
        "                i += 1\n"
        "                continue\n"
        "            ids += self.encode_ordinary(text[start:i])\n"
        "            ids.append(self.special_tokens[found])\n"
        "            start = i = i + len(found)\n",
    ),
    (
        "        char_of_byte = [i for i, char in enumerate(text) for _ in char.encode()]\n",
        "        starts = [0]\n"
        "        for char in text:\n"
        "            starts.append(starts[-1] + len(char.encode()))\n",
    ),
    (
        "(char_of_byte[first], char_of_byte[n_bytes - 1] + 1)",
        "(__import__('bisect').bisect_right(starts, first) - 1,"
        " __import__('bisect').bisect_left(starts, n_bytes))",
    ),
)
FILE_IN_JSON = (
    (
        SOURCE[
            SOURCE.index("        lines = [FILE_FORMAT") : SOURCE.index(
                '        return "\\n".join(lines) + "\\n"'
            )
        ],
        "        content = {'format': FILE_FORMAT, 'merges': list(self.merges)}\n"
        "        lines = [json.dumps(content | {'specials': list(self.special_tokens)})]\n",
    ),
    (
        SOURCE[SOURCE.index('        lines = content.split("\\n")') :],
        "        if not content.endswith('}\\n'):\n"
        "            raise ValueError('not all of a file')\n"
        "        read = json.loads(content)\n"
        "        if read.get('format') != FILE_FORMAT:\n"
        "            raise ValueError('another format')\n"
        "        return cls(map(tuple, read['merges']), read['specials'])\n",
    ),
)
OTHER_IDIOMS = (
    ("    return SPLIT.findall(text)", "    return [m.group() for m in SPLIT.finditer(text)]"),
    (
        "        if tuple(ids[i : i + 2]) == pair:\n            merged.append(new_id)\n",
        "        if i < len(ids) - 1 and ids[i] == pair[0] and pair[1] == ids[i + 1]:\n"
        "            merged += [new_id]\n",
    ),
    (
        "                excess = max(len(ids) + len(added) - max_length, 0)\n"
        '                ids = ids[excess:] if truncation_side == "left"'
        " else ids[: len(ids) - excess]\n",
        "                while len(ids) > max_length - len(added):\n"
        '                    ids.pop(0 if truncation_side == "left" else -1)\n',
    ),
    (
        "            if bos is not None:\n"
        "                ids.insert(0, bos)\n"
        "            if eos is not None:\n"
        "                ids.append(eos)\n",
        "            ids[:0] = added[: bos is not None]\n"
        "            ids.extend(added[bos is not None :])\n",
    ),
    ("            if len(self._cache) < MAX_CACHED_CHUNKS:\n    ", "            if False:\n    "),
    (
        "            if token_id < self.n_ordinary or not skip_special:\n"
        "                pieces.append(self.token_bytes[token_id])\n",
        "            if skip_special and token_id in self.special_tokens.values():\n"
        "                continue\n"
        "            pieces += [self.token_bytes[token_id]]\n",
    ),
)


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param(ROUNDS_OF_MERGES, id="one kind of pair per round"),
        pytest.param(COUNTED_ANEW, id="pairs counted anew for every merge"),
        pytest.param(SPECIALS_BY_SCANNING, id="scanning and bisecting"),
        pytest.param(FILE_IN_JSON, id="another file format"),
        pytest.param(OTHER_IDIOMS, id="other idioms"),
    ],
)
def test_a_correct_rewrite_keeps_every_promise(edits: tuple[tuple[str, str], ...]) -> None:
    assert broken_promises(NAME, _edited(*edits), seed=1) == {}


# ----- wrong files


@pytest.mark.parametrize(
    ("function", "result", "promise"),
    [
        ("split_text", "[text for text in out if text.strip()]", "test_no_character_is_lost_in"),
        ("split_text", "''.join(out).split()", "test_texts_are_split_into_words"),
        ("count_pairs", "dict.fromkeys(out, 1)", "test_pairs_are_counted_in_every_occurrence"),
        ("merge_pair", "args[0]", "test_overlapping_occurrences_are_merged_from"),
        ("merge_pair", "[*out]", "test_overlapping_occurrences_are_merged_from"),
        ("train_merges", "out[::-1]", "test_merges_are_learned_most_frequent_first"),
        ("train_merges", "[]", "test_pairs_that_occur_once_are_not_merged"),
    ],
)
def test_a_wrong_result_breaks_a_promise(function: str, result: str, promise: str) -> None:
    wrong = (
        f"\n\n_{function} = {function}\n\n\n"
        f"def {function}(*args, **kwargs):\n"
        f"    out = _{function}(*args, **kwargs)\n"
        f"    return {result}\n"
    )
    broken = broken_promises(NAME, SOURCE + wrong, seed=0)
    assert any(name.startswith(promise) for name in broken)


@pytest.mark.parametrize(
    ("edit", "promise"),
    [
        pytest.param(
            (
                "            ids.extend(self._encode_chunk(chunk))",
                "            ids += chunk.encode()",
            ),
            "test_merges_apply_in_the_order_they_were_learned",
            id="bytes alone",
        ),
        pytest.param(
            ("        for chunk in split_text(text):", "        for chunk in [text]:"),
            "test_merges_never_cross_chunks",
            id="one chunk",
        ),
        pytest.param(
            ('.decode(errors="replace")', '.decode(errors="ignore")'),
            "test_characters_split_over_tokens_are_put_together",
            id="broken characters vanish",
        ),
        pytest.param(
            ("        return ids, spans", "        return ids, [(0, len(text)) for _ in ids]"),
            "test_spans_are_the_characters_a_token_has_bytes_of",
            id="every span is the text",
        ),
        pytest.param(
            ("            rows.append(ids)", "            rows.append(ids[:3])"),
            "test_truncation_keeps_the_requested_side_and_the_frame",
            id="always cut",
        ),
        pytest.param(
            ("        return len(self.token_bytes)", "        return len(self.merges) + N_BYTES"),
            "test_special_ids_come_behind_all_others",
            id="special tokens not counted",
        ),
        pytest.param(
            ("        return new_id\n\n    @property", "        return N_BYTES\n\n    @property"),
            "test_special_ids_come_behind_all_others",
            id="one id for all special tokens",
        ),
        pytest.param(
            ("return cls([(int(left), int(right))", "return cls([(int(right), int(left))"),
            "test_a_saved_tokenizer_comes_back_the_same",
            id="merges the wrong way round",
        ),
    ],
)
def test_a_wrong_file_breaks_a_promise(edit: tuple[str, str], promise: str) -> None:
    assert breaks(NAME, _edited(edit), promise, seed=0)
