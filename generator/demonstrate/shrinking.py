"""Makes a program that shows a bug smaller, step by step, as long as it still shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from .program import (
    Array,
    Call,
    Const,
    Expr,
    Items,
    Make,
    Node,
    Program,
    Ref,
    Replies,
    Seeded,
    Table,
    changed,
    put,
    uses,
    walk,
)
from .running import Beside, Shown
from .text import Script, are_shares, are_sorted, script

_Edits = Callable[[Program], Iterator[Program]]


_FEW = 8
"""Numbers that are written down; of more, the shape says enough."""
_ARGUMENT = 2
"""Steps from a program to an argument of a call."""
_SLACK = 20
"""Characters that a trial may be longer than the best before it is run: what is printed counts."""


class _Spent(Exception):
    """The budget of steps is used up."""


def shrink(beside: Beside, program: Program, *, steps: int) -> tuple[Program, Shown] | None:
    """Return the smallest program found in so many steps, with what it prints.

    None where the program itself shows nothing when it is run as a script.
    """
    shown = beside.show(script(beside.name, program))
    if shown is None:
        program = replace(program, named=True)
        shown = beside.show(script(beside.name, program))
    if shown is None or not beside.is_steady(shown):
        return None
    search = _Search(beside, program, shown, steps)
    search.run()
    return search.best, search.shown


class _Search:
    def __init__(self, beside: Beside, program: Program, shown: Shown, steps: int) -> None:
        self.best = program
        self.shown = shown
        self._beside = beside
        self._end = beside.steps + steps
        self._length = len(_text(script(beside.name, program)))
        self._tried: set[str] = set()

    def run(self) -> None:
        try:
            self._drop_calls()
            while True:
                before = self.shown.size
                for edits in (_renumbered, _merged, _draws, _sizes, _frees, _drops, _plainer):
                    self._all(edits)
                self._drop_calls()
                if self.shown.size == before:
                    return
        except _Spent:
            return

    def _all(self, edits: _Edits) -> None:
        """Try one kind of edit at every place, until none is left that helps."""
        helped = True
        while helped:
            helped = False
            for trial in edits(self.best):
                if self._try(trial):
                    helped = True
                    break

    def _drop_calls(self) -> None:
        """Leave out calls, many at a time first; the last one stays."""
        width = max(1, (len(self.best.calls) - 1) // 2)
        while True:
            at = len(self.best.calls) - 1 - width
            while at > -width:
                start, end = max(0, at), at + width
                self._try(_without_calls(self.best, start, end))
                at = min(at, len(self.best.calls) - 1) - width
            if width == 1:
                return
            width //= 2

    def _try(self, trial: Program | None) -> bool:
        """Keep the trial if it shows the bug with less to read."""
        if trial is None or not trial.calls or not _is_whole(trial):
            return False
        written = script(self._beside.name, trial)
        key = _text(written)
        if key in self._tried or len(key) > self._length + _SLACK:
            return False
        self._tried.add(key)
        if self._beside.steps >= self._end:
            raise _Spent
        shown = self._beside.show(written)
        if shown is None or shown.size >= self.shown.size or not self._beside.is_steady(shown):
            return False
        self.best, self.shown, self._length = trial, shown, len(key)
        return True


def _text(written: Script) -> str:
    return "\n".join((*written.head, *written.body, written.last))


def _is_whole(program: Program) -> bool:
    """Tell whether every answer that is used was given before.

    What an argument was when it was passed on may have held the answer of a call that is gone.
    """
    given: set[int] = set()
    for call in program.calls:
        if uses(call) - given:
            return False
        given.add(call.variable)
    return True


def _without_calls(program: Program, start: int, end: int) -> Program | None:
    """Leave out calls and those that need their answers; None where the last one does."""
    lost: set[int] = set()
    kept: list[Call] = []
    for at, call in enumerate(program.calls):
        if start <= at < end or uses(call) & lost:
            lost.add(call.variable)
        else:
            kept.append(call)
    if not kept or kept[-1] is not program.calls[-1] or len(kept) == len(program.calls):
        return None
    return replace(program, calls=tuple(kept))


# --- edits: each yields programs that are smaller in one respect


def _renumbered(program: Program) -> Iterator[Program]:
    """Put a small number, or a letter, for a large one wherever it occurs."""
    values = [n.value for _, n in walk(program) if isinstance(n, Const)]
    numbers = {v for v in values if type(v) is int and v > 9}
    texts = {v for v in values if type(v) is str and 1 < len(v) < 8}
    for old in sorted(numbers):
        for new in range(10):
            yield _program(changed(program, lambda n, o=old, w=new: _exchanged(n, o, w)))  # type: ignore[misc]
    for text in sorted(texts):
        for letter in "abc":
            yield _program(changed(program, lambda n, o=text, w=letter: _exchanged(n, o, w)))  # type: ignore[misc]


def _exchanged(node: Node, old: object, new: int | str) -> Node:
    if isinstance(node, Const) and type(node.value) is type(old) and node.value == old:
        return Const(new)
    return node


def _merged(program: Program) -> Iterator[Program]:
    """Let one object do where two are made alike."""
    makers = [c for c in program.calls if c.callee.rpartition(".")[2][:1].isupper()]
    for first in makers:
        for second in makers:
            if second.variable > first.variable and second.callee == first.callee:
                calls = tuple(c for c in program.calls if c is not second)
                old, new = second.variable, first.variable
                fewer = replace(program, calls=calls)
                if calls and calls[-1] is program.calls[-1]:
                    yield _program(changed(fewer, lambda n, o=old, w=new: _redirected(n, o, w)))  # type: ignore[misc]


def _redirected(node: Node, old: int, new: int) -> Node:
    if isinstance(node, Ref) and node.variable == old:
        return replace(node, variable=new)
    return node


def _draws(program: Program) -> Iterator[Program]:
    """Draw the numbers of large tensors from a seed; all at once first."""
    places = [(path, n) for path, n in walk(program) if isinstance(n, Array) and not n.drawn]
    large = [(p, n) for p, n in places if n.data.numel() > _FEW and not are_sorted(n.data)]
    if len(large) > 1:
        everywhere: Node = program
        for path, array in large:
            everywhere = put(everywhere, path, replace(array, drawn=True))
        yield _program(everywhere)
    for path, array in large:
        yield _program(put(program, path, replace(array, drawn=True)))
    for path, node in list(walk(program)):
        if isinstance(node, Array) and node.drawn and node.data.numel() <= _FEW:
            for plain in (*_plainer_arrays(node.data), Array(node.data)):
                yield _program(put(program, path, plain))


def _sizes(program: Program) -> Iterator[Program]:
    """Make one size smaller wherever it occurs: in tensors, and in numbers that name it."""
    arrays = [n for _, n in walk(program) if isinstance(n, Array)]
    sizes = sorted({s for a in arrays for s in a.data.shape if s > 1}, reverse=True)
    for size in sizes:
        for new in dict.fromkeys((1, 2, 3, size // 2, size - 1)):
            if 0 < new < size:
                yield _program(changed(program, lambda n, s=size, w=new: _resized(n, s, w, True)))  # type: ignore[misc]
                yield _program(changed(program, lambda n, s=size, w=new: _resized(n, s, w, False)))  # type: ignore[misc]
    for dim in range(max((a.data.dim() for a in arrays), default=0)):
        for new in (1, 2):
            yield _program(changed(program, lambda n, d=dim, w=new: _cut(n, d, w)))  # type: ignore[misc]
    for path, node in list(walk(program)):
        if isinstance(node, Array):
            for dim, size in enumerate(node.data.shape):
                for new in dict.fromkeys((1, size // 2, size - 1)):
                    if 0 < new < size:
                        yield _program(put(program, path, _cut(node, dim, new)))


def _resized(node: Node, size: int, new: int, numbers_too: bool) -> Node:
    if isinstance(node, Array):
        for dim, here in enumerate(node.data.shape):
            if here == size:
                node = _cut(node, dim, new)
        return node
    if numbers_too and isinstance(node, Const) and node.value == size:
        return Const(new) if type(node.value) is int else node
    return node


def _cut(node: Node, dim: int, new: int) -> Node:
    if isinstance(node, Array) and dim < node.data.dim() and node.data.shape[dim] > new:
        data = node.data.narrow(dim, 0, new).clone()
        if are_shares(node.data) and not are_shares(data) and data.shape[-1] > 1:
            data /= data.sum(-1, keepdim=True)
        return replace(node, data=data)
    return node


def _frees(program: Program) -> Iterator[Program]:
    """Write down what an earlier call answered, so that the call is not needed."""
    for path, node in walk(program):
        if isinstance(node, Ref) and node.seen is not None:
            freed = put(program, path, node.seen)
            yield _without_unused(_program(freed))
    if program.seeded:
        yield replace(program, seeded=False)
    if program.named:
        yield replace(program, named=False)


def _without_unused(program: Program) -> Program:
    """Leave out calls whose answers only what was freed needed: those that make nothing else."""
    used = {v for call in program.calls for v in uses(call)}
    last = program.calls[-1]
    return replace(
        program, calls=tuple(c for c in program.calls if c is last or c.variable in used)
    )


def _drops(program: Program) -> Iterator[Program]:
    """Leave out items: of lists, texts and dictionaries, and arguments that have a default."""
    for path, node in list(walk(program)):
        match node:
            case Call() if node.items:
                for at in range(len(node.items) - 1, -1, -1):
                    if at >= len(node.items) - len(node.keywords) or at == len(node.items) - 1:
                        yield _program(put(program, path, _without_argument(node, at)))
            case Make():
                for at in range(len(node.items)):
                    yield _program(put(program, path, _without_field(node, at)))
            case Items() | Replies():
                for start, end in _spans(len(node.items)):
                    if end - start == len(node.items) and len(path) <= _ARGUMENT:
                        continue  # an example of nothing tells little
                    items = node.items[:start] + node.items[end:]
                    yield _program(put(program, path, replace(node, items=items)))
            case Table():
                for start, end in _spans(len(node.items) // 2):
                    items = node.items[: 2 * start] + node.items[2 * end :]
                    yield _program(put(program, path, replace(node, items=items)))
            case Const(value=str() as text) if len(text) > 1:
                for start, end in _spans(len(text)):
                    yield _program(put(program, path, Const(text[:start] + text[end:])))
            case Const(value=bytes() as data) if len(data) > 1:
                for start, end in _spans(len(data)):
                    yield _program(put(program, path, Const(data[:start] + data[end:])))


def _without_argument(call: Call, at: int) -> Call:
    keyword = at - (len(call.items) - len(call.keywords))
    keywords = call.keywords
    if keyword >= 0:
        keywords = keywords[:keyword] + keywords[keyword + 1 :]
    return replace(
        call,
        items=call.items[:at] + call.items[at + 1 :],
        keywords=keywords,
        parameters=call.parameters[:at] + call.parameters[at + 1 :],
    )


def _without_field(made: Make, at: int) -> Make:
    return replace(
        made,
        fields=made.fields[:at] + made.fields[at + 1 :],
        items=made.items[:at] + made.items[at + 1 :],
    )


def _spans(length: int) -> Iterator[tuple[int, int]]:
    """Yield what to leave out of so many: halves, quarters, then one by one from the end."""
    width = length // 2
    while width > 1:
        for start in range(length - width, -1, -width):
            yield start, start + width
        width //= 2
    for at in range(length - 1, -1, -1):
        yield at, at + 1


def _plainer(program: Program) -> Iterator[Program]:
    """Put plainer numbers: small whole ones, one digit, all the same."""
    for path, node in list(walk(program)):
        for new in _plainer_values(node):
            yield _program(put(program, path, new))


def _plainer_values(node: Node) -> Iterator[Expr]:
    match node:
        case Const(value=bool()):
            return
        case Const(value=int() as number) if abs(number) > 1:
            for new in dict.fromkeys((0, 1, 2, 3, number // 2)):
                if abs(new) < abs(number):
                    yield Const(new)
        case Const(value=float() as value) if len(repr(value)) > 3:
            for plain in dict.fromkeys((0.0, 1.0, float(f"{value:.0e}"), float(f"{value:.1e}"))):
                if len(repr(plain)) < len(repr(value)):
                    yield Const(plain)
        case Const(value=str() as text) if text.strip("ab"):
            yield Const("".join("a" if c.isalnum() else c for c in text))
        case Seeded(seed=seed) if seed > 0:
            yield Seeded(0)
        case Array() if not node.drawn:
            yield from _plainer_arrays(node.data)


def _plainer_arrays(data: torch.Tensor) -> Iterator[Array]:
    if not data.numel() or are_shares(data):
        return
    if data.dtype == torch.bool:
        for truth in (True, False):
            if bool((data != truth).any()):
                yield Array(torch.full_like(data, truth))
        return
    for value in (0, 1):
        if bool((data != value).any()) and float(data.min()) <= value <= float(data.max()):
            yield Array(torch.full_like(data, value))
    if data.is_floating_point():
        whole = torch.where(data.isfinite(), data.round(), data)
        if not torch.equal(whole, data):
            yield Array(whole)
        tenth = torch.where(data.isfinite(), (data.double() * 10).round() / 10, data.double())
        if not torch.equal(tenth.to(data.dtype), data):
            yield Array(tenth.to(data.dtype))
        return
    counted = torch.arange(data.numel()).reshape(data.shape).to(data.dtype)
    if not torch.equal(counted, data):
        yield Array(counted)
    smaller = data.clamp(max=3)
    if not torch.equal(smaller, data):
        yield Array(smaller)


def _program(node: Node) -> Program:
    assert isinstance(node, Program)
    return node
