"""Writes a program as the text of a script."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import torch

from .program import (
    Array,
    Call,
    Const,
    Expr,
    Items,
    Lookup,
    Make,
    Name,
    Program,
    Ref,
    Replies,
    Seeded,
    Table,
    uses,
)

ELSEWHERE = "meta"
"""A device without numbers, that every machine has; in place of a GPU."""
_INLINE = 44
"""Characters of a tensor that may stand within a call."""


@dataclass(frozen=True, slots=True)
class Script:
    """The parts of a script, in the order in which they run."""

    head: tuple[str, ...]
    """Imports, the seed and the inputs."""
    body: tuple[str, ...]
    """All calls but the last."""
    last: str
    """The last call, as an expression."""
    answer: str
    """The name that the answer of the last call gets."""
    shown: tuple[str, ...]
    """Names to look at: the answer, objects that the last call may have changed, and what was asked
    of functions given."""
    elsewhere: bool = False
    """Whether the last call is made where new tensors go to another device."""

    def with_print(self, shown: str) -> str:
        """Return the script with an expression printed at its end."""
        body = [*self.head, *self.body]
        if shown == self.answer and not self.elsewhere:
            return "\n".join([*body, f"print({self.last})"]) + "\n"
        needed = self.answer in shown
        last = self._around_last(f"{self.answer} = {self.last}" if needed else self.last)
        return "\n".join([*body, *last, f"print({shown})"]) + "\n"

    def with_try(self) -> str:
        """Return the script that prints whether the last call raises."""
        lines = [
            *self.head,
            *self.body,
            "try:",
            *(f"    {line}" for line in self._around_last(self.last)),
            '    print("answers")',
            "except Exception as error:",
            "    print(type(error).__name__)",
        ]
        return "\n".join(lines) + "\n"

    def _around_last(self, last: str) -> list[str]:
        """Return the last call's statement, where it has to be made."""
        if not self.elsewhere:
            return [last]
        there = f'with torch.device("{ELSEWHERE}"):'
        return [f"{there}  # here new tensors go that are not told where", f"    {last}"]


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a program that is run call by call."""

    name: str
    text: str
    shown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """A program in which every answer has a name."""

    head: tuple[str, ...]
    steps: tuple[Step, ...]


def script(name: str, program: Program) -> Script:
    """Return the script of a program beside the file of that name."""
    return _Writer(name, program).script()


def every_step(name: str, program: Program) -> Steps:
    """Return a program's calls one by one."""
    return _Writer(name, replace(program, named=True)).steps()


class _Writer:
    def __init__(self, name: str, program: Program) -> None:
        self._name = name
        self._program = program
        self._taken = {name, "torch", "math", "itertools"}
        self._names: dict[int, str] = {}
        self._inputs: list[str] = []
        self._drawn: list[str] = []
        self._given: list[str] = []
        self._arguments: list[str] = []
        """Names of the inputs of the call written last."""

    def script(self) -> Script:
        calls = self._program.calls
        used = frozenset(v for call in calls for v in uses(call))
        lines = []
        for call in calls[:-1]:
            text = self._call(call)
            if call.variable in used:
                text = f"{self._named(call)} = {text}"
            lines.append(text)
        last = self._call(calls[-1])
        answer = self._named(calls[-1])
        shown = (answer, *self._objects(calls[-1]))
        elsewhere = self._program.elsewhere
        head = self._head((*lines, last, "torch.device" if elsewhere else ""))
        return Script(head, tuple(lines), last, answer, shown, elsewhere)

    def steps(self) -> Steps:
        found = []
        for call in self._program.calls:
            text = self._call(call)
            name = self._named(call)
            found.append(Step(name, text, (name, *self._objects(call))))
        return Steps(self._head(tuple(step.text for step in found)), tuple(found))

    def _head(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        seeded = self._program.seeded or self._drawn
        inputs = [*(["torch.manual_seed(0)"] if seeded else []), *self._drawn, *self._inputs]
        text = "\n".join([*inputs, *lines])
        others = [m for m in ("itertools", "math", "torch") if re.search(rf"\b{m}\.", text)]
        imports = [f"import {module}" for module in others]
        return (*imports, *([""] if imports else []), f"import {self._name}", "", *inputs)

    def _objects(self, call: Call) -> tuple[str, ...]:
        found = [self._names[v] for v in sorted(uses(call))]
        return (*dict.fromkeys(found), *self._given, *self._arguments)

    def _named(self, call: Call) -> str:
        self._names[call.variable] = self._free(_noun(call.callee))
        return self._names[call.variable]

    def _free(self, wanted: str) -> str:
        name, n = wanted, 1
        while name in self._taken:
            n += 1
            name = f"{wanted}_{n}"
        self._taken.add(name)
        return name

    def _call(self, call: Call) -> str:
        given, self._arguments = [], []
        for at, item in enumerate(call.items):
            wanted = call.parameters[at]
            text = self._text(item, wanted if wanted.isidentifier() else "value")
            if self._program.named and isinstance(item, Items) and not uses(item):
                name = self._free(wanted)
                self._inputs.append(f"{name} = {text}")
                self._arguments.append(name)
                text = name
            keyword = at - (len(call.items) - len(call.keywords))
            given.append(text if keyword < 0 else f"{call.keywords[keyword]}={text}")
        callee = call.callee
        if call.receiver is not None:
            receiver = self._text(call.receiver, "item")
            callee = f"{receiver}.{callee}" if callee else receiver
        text = f"{callee}({', '.join(given)})"
        return f"list({text})" if call.listed else text

    def _text(self, expr: Expr, wanted: str) -> str:
        match expr:
            case Const(value=float() as number):
                return _number(number)
            case Const():
                return repr(expr.value)
            case Name():
                return expr.text
            case Seeded():
                return f"torch.Generator().manual_seed({expr.seed})"
            case Ref():
                return self._names[expr.variable] + expr.path
            case Items():
                return _bracketed(expr.kind, [self._text(item, wanted) for item in expr.items])
            case Table():
                texts = [self._text(item, wanted) for item in expr.items]
                pairs = zip(texts[::2], texts[1::2], strict=True)
                return "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
            case Make():
                texts = [
                    f"{name}={self._text(item, name)}"
                    for name, item in zip(expr.fields, expr.items, strict=True)
                ]
                return f"{expr.name}({', '.join(texts)})"
            case Array():
                return self._array(expr, wanted)
            case Replies():
                return self._replies(expr)
            case Lookup():
                return self._lookup(expr)

    def _array(self, array: Array, wanted: str) -> str:
        text = _tensor(array.data) if not array.drawn else _draw(array.data)
        # Within a call that is made elsewhere an input would be made there, too.
        with_name = array.drawn or self._program.named or self._program.elsewhere
        if len(text) <= _INLINE and not with_name:
            return text
        name = self._free(wanted)
        self._arguments += [name] if self._program.named else []
        (self._drawn if array.drawn else self._inputs).append(f"{name} = {text}")
        return name

    def _replies(self, replies: Replies) -> str:
        given, answers = self._free("given"), self._free("answers")
        model = self._free("model")
        texts = ", ".join(self._text(item, "logits") for item in replies.items)
        self._inputs += [
            f"{answers} = itertools.cycle([{texts}])",
            f"{given} = []",
            f"def {model}(*args):",
            f"    {given}.append(args)",
            f"    return next({answers})",
        ]
        self._given.append(given)
        return model

    def _lookup(self, lookup: Lookup) -> str:
        given, table, model = self._free("given"), self._free("table"), self._free("model")
        size = lookup.vocab_size
        self._drawn.append(f"{table} = torch.randn({size}, {size})")
        self._inputs += [
            f"{given} = []",
            f"def {model}(tokens, *args):",
            f"    {given}.append((tokens, *args))",
            f"    return {table}[tokens]",
        ]
        self._given.append(given)
        return model


def _noun(callee: str) -> str:
    name = callee.rpartition(".")[2]
    if name[:1].isupper():
        words = re.findall(r"[A-Z]+[a-z0-9]*(?:[A-Z](?![A-Za-z]))?", name)  # Mo and E are one
        return words[-1].lower() if words else "made"
    return "out"


def _bracketed(kind: str, texts: list[str]) -> str:
    inside = ", ".join(texts)
    match kind:
        case "list":
            return f"[{inside}]"
        case "tuple":
            return f"({inside},)" if len(texts) == 1 else f"({inside})"
        case "set" if texts:
            return f"{{{inside}}}"
    return f"{kind}([{inside}])" if texts else f"{kind}()"


def _number(number: float) -> str:
    if math.isnan(number):
        return "math.nan"
    if math.isinf(number):
        return "math.inf" if number > 0 else "-math.inf"
    return repr(number)


def _shape(data: torch.Tensor) -> str:
    return ", ".join(map(str, data.shape))


def _dtype(data: torch.Tensor, default: torch.dtype) -> str:
    return "" if data.dtype == default else f", dtype={data.dtype}"


def _tensor(data: torch.Tensor) -> str:
    """Write the very numbers, shortly where they follow a rule."""
    if data.numel() and data.dim() and data.dtype != torch.bool:
        first = data.flatten()[0].item()
        if data.numel() > 2 and bool((data == first).all()) and first in {0, 1}:
            maker = "ones" if first else "zeros"
            return f"torch.{maker}({_shape(data)}{_dtype(data, torch.float32)})"
        counted = torch.arange(data.numel(), dtype=data.dtype)
        if data.dim() == 1 and data.numel() > 3 and torch.equal(data, counted):
            return f"torch.arange({data.numel()}{_dtype(data, torch.int64)})"
    if not data.numel():
        return f"torch.zeros({_shape(data)}{_dtype(data, torch.float32)})"
    default = {True: torch.float32, False: torch.int64}[data.is_floating_point()]
    kind = "" if data.dtype == torch.bool else _dtype(data, default)
    return f"torch.tensor({_nested(data.tolist(), data.dtype)}{kind})"


def _nested(value: object, dtype: torch.dtype) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_nested(item, dtype) for item in value) + "]"
    if isinstance(value, float):
        # Nine digits tell any two numbers of 32 bits apart.
        return _number(value if dtype == torch.float64 else float(f"{value:.9g}"))
    return repr(value)


def _draw(data: torch.Tensor) -> str:
    """Write a tensor of that shape and dtype with numbers of that kind."""
    shape = _shape(data)
    if data.dtype == torch.bool:
        return f"torch.rand({shape}) < 0.5"
    if data.is_floating_point():
        dtype = _dtype(data, torch.float32)
        if are_shares(data):
            return f"torch.randn({shape}{dtype}).softmax(-1)"
        positive = bool((data >= 0).all())
        return f"torch.{'rand' if positive else 'randn'}({shape}{dtype})"
    low, high = int(data.min()), int(data.max()) + 1
    return f"torch.randint({low}, {high}, {tuple(data.shape)}{_dtype(data, torch.int64)})"


def are_sorted(data: torch.Tensor) -> bool:
    """Tell whether every row of whole numbers grows, as positions and offsets do."""
    if data.is_floating_point() or data.dtype == torch.bool or data.dim() == 0:
        return False
    return data.shape[-1] > 2 and bool((data.diff(dim=-1) >= 0).all())


def are_shares(data: torch.Tensor) -> bool:
    """Tell whether every row is a distribution."""
    if not data.is_floating_point() or data.dim() == 0 or data.shape[-1] < 2 or not data.numel():
        return False
    sums = data.double().sum(-1)
    return bool((data >= 0).all()) and bool(
        torch.isclose(sums, torch.ones_like(sums), atol=1e-3).all()
    )
