"""A bug in the order of two lines of bookkeeping."""

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    assigned,
    is_called,
    mentions,
    mutator,
    name_of,
    same,
    swapped,
    uncommented,
    walk,
)

COUNTER = (
    r"n_\w+|num_\w+|(\w+_)?(lengths?|counts?|computed|position|positions|offset|total|seen|used"
    r"|free_blocks|generated|sum_logprob|index)"
)
BEGIN = r"(\w+_)?(start|begin|previous|prev|last|old|done)"


@mutator(
    topic="batching",
    family="computed-tokens-double-counted",
    hints=[
        "Take a step that changes a counter, and compare each number in it with one made by hand.",
        "Which counters are read beside the line that changes them: before it, or after?",
        "A line that needs the old value stands before the line that sets the new one.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/8950",
            "the counter of computed tokens ran ahead",
        ),
    ],
    mutates={
        """
        def feed(self, request, n):
            start = request.n_computed
            request.n_computed += n
            return start
        """: """
        def feed(self, request, n):
            request.n_computed += n
            start = request.n_computed
            return start
        """,
        """
        def charge(self, request, n_blocks):
            self.n_free -= n_blocks - request.n_blocks
            request.n_blocks = n_blocks
        """: """
        def charge(self, request, n_blocks):
            request.n_blocks = n_blocks
            self.n_free -= n_blocks - request.n_blocks
        """,
        """
        class Scheduler:
            def preempt(self, request):
                self.n_lost += request.n_computed
                self.release(request)

            def release(self, request):
                request.n_computed = 0
        """: """
        class Scheduler:
            def preempt(self, request):
                self.release(request)
                self.n_lost += request.n_computed

            def release(self, request):
                request.n_computed = 0
        """,
        """
        while start < length:
            stop = min(length, start + room)
            room -= stop - start
            start = stop
        """: """
        while start < length:
            stop = min(length, start + room)
            start = stop
            room -= stop - start
        """,
    },
    spares=[
        """
        # Where it starts.
        start = request.n_computed
        request.n_computed += n
        """,
        """
        start = request.n_computed
        other.n_computed += n
        """,
        """
        request.n_computed += n
        stop = request.n_computed
        """,
        """
        gone = self.positions >= limit
        self.positions = self.positions.masked_fill(gone, -1)
        """,
    ],
)
def counter_moves_before_it_is_read(
    node: cst.IndentedBlock, context: Context
) -> Iterator[cst.IndentedBlock]:
    """A counter is set to its new value one line before its old value is needed.

    What a step begins with is the counter's old value, and a difference needs the old one and the
    new one. When the line that moves the counter comes first, the step begins where it should end,
    or the difference is always nothing.

    Both lines look alike in either order, the counter itself is right afterwards, and what was
    computed from it is often only an account that nobody adds up.
    """
    for at, (reads, moves) in enumerate(pairwise(node.body)):
        if not uncommented(reads, moves) or not _is_assignment(reads):
            continue
        counters = [n for n in _read_by(reads) if is_called(n, COUNTER)]
        moved = any(_moves(moves, counter, context) for counter in counters)
        moved = moved or _ends_the_stretch(reads, moves)
        if moved and not _needs(moves, reads):
            yield swapped(node, at)


def _is_assignment(line: cst.CSTNode) -> bool:
    match line:
        case cst.SimpleStatementLine(body=[cst.Assign() | cst.AugAssign()]):
            return True
    return False


def _read_by(line: cst.CSTNode) -> list[cst.Attribute]:
    """Return the attributes in what an assignment assigns."""
    match line:
        case cst.SimpleStatementLine(body=[cst.Assign(value=value) | cst.AugAssign(value=value)]):
            return [n for n in walk(value) if isinstance(n, cst.Attribute)]
    return []


def _ends_the_stretch(reads: cst.CSTNode, moves: cst.CSTNode) -> bool:
    """Tell `room -= stop - start` before `start = stop`."""
    found = assigned(moves)
    if found is None or not is_called(found[0], BEGIN):
        return False
    length = cst.BinaryOperation(found[1], cst.Subtract(), found[0])
    return any(same(node, length) for node in walk(reads))


def _needs(line: cst.CSTNode, before: cst.CSTNode) -> bool:
    """Tell whether a line reads the variable that the line before it assigns."""
    found = assigned(before)
    return found is not None and isinstance(found[0], cst.Name) and mentions(line, found[0].value)


def _moves(line: cst.CSTNode, counter: cst.Attribute, context: Context) -> bool:
    """Tell whether a line assigns the counter, itself or by a function of this file."""
    match line:
        case cst.SimpleStatementLine(body=[cst.AugAssign(target=target)]):
            return same(target, counter)
        case cst.SimpleStatementLine(body=[cst.Assign(targets=[cst.AssignTarget(target)])]):
            return same(target, counter)
        case cst.SimpleStatementLine(body=[cst.Expr(value=cst.Call() as call)]):
            handed_over = any(same(arg.value, counter.value) for arg in call.args)
            return handed_over and any(
                _resets(function, name_of(counter))
                for function in walk(context.module)
                if isinstance(function, cst.FunctionDef) and function.name.value == name_of(call)
            )
    return False


def _resets(function: cst.FunctionDef, counter: str) -> bool:
    """Tell whether the function assigns an attribute of that name."""
    return any(
        isinstance(n, cst.AssignTarget)
        and isinstance(n.target, cst.Attribute)
        and name_of(n.target) == counter
        for n in walk(function)
    )
