"""A bug in decoding bytes that come piece by piece."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, is_called, mutator


# Fits one subject: only a detokenizer gets bytes in pieces.
@mutator(
    topic="tokenizer",
    family="per-token-utf8-decode",
    hints=[
        "Cut the bytes of an emoji in the middle and push the halves one after the other.",
        "How does the decoder learn whether more bytes will come?",
        "Until the last piece a character that is not complete waits for its remaining bytes.",
    ],
    sightings=[
        Sighting(
            "https://github.com/antonellof/ferrox/issues/124", "emoji became replacement characters"
        ),
        Sighting(
            "https://github.com/spiceai/spiceai/issues/12588",
            "a character cut by a read was replaced",
        ),
    ],
    mutates={
        """
        text, n_used = codecs.utf_8_decode(data, "replace", False)
        """: """
        text, n_used = codecs.utf_8_decode(data, "replace", True)
        """,
        "delta = self.decoder.decode(piece, final=False)": (
            "delta = self.decoder.decode(piece, final=True)"
        ),
        "delta = self.incremental.decode(piece)": "delta = self.incremental.decode(piece, True)",
    },
    spares=[
        "text = data.decode(errors='replace')",
        "tail = self.decoder.decode(b'', final=True)",
        "image = self.decoder.decode(latents, sizes)",
    ],
)
def unfinished_character_is_not_waited_for(node: cst.Call) -> Iterator[cst.Call]:
    """Every piece of bytes is decoded as if it were the last one.

    A decoder that is given a stream in pieces keeps the beginning of a character back, until the
    rest of it comes; only for the last piece it must not, as there is no rest. One flag tells which
    of the two it is. Told that each piece is final, the decoder makes replacement characters of the
    first bytes, and again of those that follow.

    Pieces of ASCII hold whole characters only, and there the flag has no effect.
    """
    match node:
        case cst.Call(args=[_, _, cst.Arg(value=cst.Name("False")) as last]):
            if is_called(node, r"utf_8_decode|utf_16_decode|ex_decode"):
                yield node.with_changes(
                    args=[*node.args[:2], last.with_changes(value=cst.Name("True"))]
                )
        case cst.Call(func=cst.Attribute(decoder, cst.Name("decode")), args=[piece, *rest]):
            if not is_called(decoder, r"(\w+_)?(decoder|incremental(_\w+)?|utf8|assembler)"):
                return
            match rest:
                case [] if piece.keyword is None and isinstance(piece.value, cst.Name):
                    yield node.with_changes(args=[piece, cst.Arg(cst.Name("True"))])
                case [cst.Arg(value=cst.Name("False")) as last]:
                    yield node.with_changes(args=[piece, last.with_changes(value=cst.Name("True"))])
