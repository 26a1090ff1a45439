"""A bug in tables from names to requests."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, fill, mutator, name_of, pattern, uncommented

POPPED = pattern("$table.pop($key, None)", key=r"(\w+_)?(id|ids|key|name|row|index|slot)|i|j")
KEY = POPPED.names["key"]


@mutator(
    topic="batching",
    family="swap-state-get-instead-of-pop",
    hints=[
        "Let a request go, then ask for it by its name, and use the same name again.",
        "When something leaves, which tables name it, and which line takes it out of each?",
        "What has left is taken out of the table that it was found in.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/49613",
            "an entry was copied and not taken out",
        ),
        Sighting(
            "https://github.com/vllm-project/vllm/pull/51890", "two rows shared one state object"
        ),
    ],
    mutates={
        "state = self.states.pop(request_id, None)": "state = self.states.get(request_id)",
        """
        def free(self, seq_id):
            for block in self.tables[seq_id]:
                self.release(block)
            del self.tables[seq_id]
        """: """
        def free(self, seq_id):
            for block in self.tables[seq_id]:
                self.release(block)
        """,
        """
        def move(self, i, j):
            self.masks[j] = self.masks[i]
            del self.masks[i]
        """: """
        def move(self, i, j):
            self.masks[j] = self.masks[i]
        """,
    },
    spares=[
        "options = settings.pop(name)",
        "del kwargs[key]",
        "del self.tokens[n:]",
        """
        def remove(self, key):
            # Nobody may find it any more.
            del self.rows[key]
            self.n_removed += 1
        """,
    ],
)
def departed_entry_stays_in_the_table(
    node: cst.Call | cst.SimpleStatementLine, context: Context
) -> Iterator[cst.CSTNode | cst.RemovalSentinel]:
    """Something leaves, and the table by which it is found still has it.

    Requests, sequences and rows are found in tables. Whoever leaves is looked up, gives back what
    it has, and is taken out of the table by the same step. If the entry stays, it is served again,
    its name is taken for ever, or what it had is given back twice.

    The rest of the step is right, and a test that runs one request to its end never asks again.
    """
    match node:
        case cst.Call():
            found = POPPED.match(node)
            if found is not None and isinstance(found["table"], cst.Attribute):
                yield fill(pattern("$table.get($key)"), found)
        case cst.SimpleStatementLine(
            body=[
                cst.Del(
                    target=cst.Subscript(
                        value=cst.Attribute(value=cst.Name(value="self")),
                        slice=[cst.SubscriptElement(cst.Index(value=cst.Name() as key))],
                    )
                )
            ]
        ) if KEY.fullmatch(name_of(key)):
            if uncommented(node) and context.can_spare(node):
                yield cst.RemoveFromParent()
