"""A first look at the tokenizer; run me with pytest."""

from __future__ import annotations

from bpe_tokenizer import BPETokenizer, split_text


def test_a_text_is_split_into_words() -> None:
    """A word takes the space before it along."""
    assert split_text("hello world") == ["hello", " world"]


def test_a_short_text_survives_encoding_and_decoding() -> None:
    """A learned merge makes the text shorter, and decoding gives the text again."""
    tokenizer = BPETokenizer.train(["hello hello hello"], n_merges=1)
    ids = tokenizer.encode("hello")

    assert tokenizer.vocab_size == 257
    assert 0 < len(ids) < 5
    assert all(0 <= token_id < tokenizer.vocab_size for token_id in ids)
    assert tokenizer.decode(ids) == "hello"


def test_a_special_token_has_an_id_of_its_own() -> None:
    """A special token that is allowed becomes one id."""
    tokenizer = BPETokenizer(special_tokens=["<eos>"])

    assert 256 in tokenizer.encode("hi<eos>", allowed_special="all")
