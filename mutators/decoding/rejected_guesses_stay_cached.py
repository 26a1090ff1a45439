"""A bug in decoders that take tokens back."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator

FORGETS = (
    r"_?(\w+_)?(rollback|roll_back|rewind|truncate|trim|crop|undo)(_(to|cache|kv|kv_cache|tokens))?"
)


# Fits one subject: only speculative decoding calls the rollback itself; elsewhere the caller does.
@mutator(
    topic="decoding",
    family="spec-rollback-silently-noop",
    hints=[
        "After each call, compare what the models have cached with the text that was returned.",
        "Who takes back what was fed but did not become text, and from which of the caches?",
        "Whatever is fed on trial has to leave every cache that it entered.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ml-explore/mlx-lm/pull/1109",
            "a rollback that did nothing, unseen",
        ),
        Sighting(
            "https://github.com/ml-explore/mlx-swift-lm/issues/424", "no rollback once it wrapped"
        ),
    ],
    mutates={
        """
        def round(self, tokens):
            n_accepted = self.verify(tokens)
            self._roll_back(len(tokens) + n_accepted)
            return tokens[: n_accepted + 1]
        """: """
        def round(self, tokens):
            n_accepted = self.verify(tokens)
            return tokens[: n_accepted + 1]
        """,
        """
        def rewind(target, draft, n):
            trim_cache(target, n)
            if draft is not None:
                trim_cache(draft, n)
            return target, draft
        """: [
            """
            def rewind(target, draft, n):
                if draft is not None:
                    trim_cache(draft, n)
                return target, draft
            """,
            """
            def rewind(target, draft, n):
                trim_cache(target, n)
                return target, draft
            """,
        ],
    },
    spares=[
        """
        def forget(self, n):
            self.cache.truncate(n)
        """,
        """
        def tidy(self, text):
            text = truncate(text, 80)
            return text.strip()
        """,
        """
        def step(self, n):
            # The target keeps what was accepted.
            self.target.truncate(n)
            self.n_steps += 1
            return n
        """,
    ],
)
def rejected_guesses_stay_cached(
    node: cst.SimpleStatementLine | cst.If, context: Context
) -> Iterator[cst.RemovalSentinel]:
    """A cache keeps tokens that are no part of the text.

    Guesses enter the caches of both models before anybody knows whether they will stay. When some
    are rejected, both caches have to go back to the text. A cache that does not is longer than it
    should be: the next tokens are taken for known, or stand at the wrong positions.

    If every guess is accepted there is nothing to take back. And where only the drafter's cache is
    stale, the text remains right and merely comes more slowly.
    """
    if any(line.comment is not None for line in node.leading_lines):
        return
    line: cst.BaseStatement = node
    match node:
        case cst.If(body=cst.IndentedBlock([cst.SimpleStatementLine() as only]), orelse=None):
            line = only
    match line:
        case cst.SimpleStatementLine([cst.Expr(cst.Call() as call)]) if is_called(call, FORGETS):
            if context.before(node) or context.after(node):
                above = context.parent(context.parent(node) or node)
                if not isinstance(above, cst.If) and context.can_spare(node):
                    yield cst.RemoveFromParent()
