"""A bug in turning ids back into text."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, walk

IDS = r"(\w+_)?ids|tokens|generated(_tokens)?|output_tokens"
TOKENIZERS = r"\w*tok\w*|\w*enc(oder|oding)?|processor|sp|self"


# Fits one subject: only a tokenizer turns ids into text.
@mutator(
    topic="tokenizer",
    family="per-token-utf8-decode",
    hints=[
        "Decode an emoji, or a word in Chinese. Are all of its characters back?",
        "At which point do bytes become text, and how many tokens are together there?",
        "A token may end within a character: bytes are joined first and decoded then.",
    ],
    sightings=[
        Sighting(
            "https://github.com/antonellof/ferrox/issues/124", "a character cut in two was lost"
        ),
        Sighting(
            "https://github.com/Lightning-AI/litgpt/pull/1559", "a single token loses its space"
        ),
    ],
    mutates={
        """
        def decode(self, ids, skip_special=False):
            return self.to_bytes(ids, skip_special).decode(errors="replace")
        """: """
        def decode(self, ids, skip_special=False):
            return "".join(self.to_bytes([i], skip_special).decode(errors="replace") for i in ids)
        """,
        """
        text = tokenizer.decode(output_ids, skip_special_tokens=True)
        """: """
        text = "".join(tokenizer.decode([i], skip_special_tokens=True) for i in output_ids)
        """,
        """
        return b"".join(self.vocab[i] for i in ids).decode("utf-8", "replace")
        """: """
        return "".join(self.vocab[i].decode("utf-8", "replace") for i in ids)
        """,
    },
    spares=[
        "text = data.decode(errors='replace')",
        "x = vae.decode(latents)",
        "logits = model.decode(ids, cache)",
        "pieces = b''.join(vocab[i] for i in ids)",
        "text = ''.join(decode([i]) for i in ids)",
    ],
)
def every_token_is_decoded_alone(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """Every token becomes text on its own, and the texts are joined.

    Tokens are pieces of bytes, and UTF-8 takes up to four bytes for a character. Where a boundary
    between tokens falls within a character, neither half is text; each is decoded to replacement
    characters, and joining those brings nothing back. Some tokenizers drop the space that begins a
    text, and then drop it before every word.

    In English a token ends between two characters, always. The first emoji shows it.
    """
    if context.enclosing(node, cst.GeneratorExp) or context.enclosing(node, cst.ListComp):
        return
    match node:
        case cst.Call(
            func=cst.Attribute(
                value=cst.Call(
                    func=cst.Attribute(cst.SimpleString(), cst.Name("join")),
                    args=[cst.Arg(value=cst.GeneratorExp() as pieces)],
                ),
                attr=cst.Name("decode"),
            )
        ):
            alone = node.with_changes(func=node.func.with_changes(value=pieces.elt))
            yield _joined(pieces.with_changes(elt=alone))
        case cst.Call(func=cst.Attribute(value=decoder, attr=cst.Name("decode"))):
            for below in walk(node):
                match below:
                    case cst.Call(args=[cst.Arg(value=cst.Name() as ids, keyword=None), *_]) if (
                        is_called(ids, IDS)
                    ):
                        if below is node and not is_called(decoder, TOKENIZERS):
                            continue
                        one = cst.List([cst.Element(cst.Name("i"))])
                        first = below.args[0].with_changes(value=one)
                        call = below.with_changes(args=[first, *below.args[1:]])
                        alone = call if below is node else node.deep_replace(below, call)
                        loop = cst.CompFor(cst.Name("i"), ids)
                        yield _joined(cst.GeneratorExp(alone, loop, lpar=[], rpar=[]))


def _joined(pieces: cst.GeneratorExp) -> cst.Call:
    join = cst.Attribute(cst.SimpleString('""'), cst.Name("join"))
    return cst.Call(join, [cst.Arg(pieces.with_changes(lpar=[], rpar=[]))])
