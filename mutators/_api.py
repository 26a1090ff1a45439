"""What a mutator is, and the decorator that makes one of a function.

A mutator is a generator: a node in, replacement nodes out. Its annotation is the node type it
wants, its name the bug, its docstring the lesson, its examples its tests. The decorator refuses an
author's mistake at import, with a sentence that starts with `file:line`.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import libcst as cst

from halfhour.mutators._context import Context
from halfhour.mutators._rewrite import rewriter

TOPICS = (
    "masking",
    "positions",
    "attention",
    "kv_cache",
    "sampling",
    "decoding",
    "batching",
    "numerics",
    "quantization",
    "moe",
    "tokenizer",
    "sharding",
    "devices",
)
"""The catalogue's chapters, in order; a built-in mutator's folder is its topic."""

Replacement = cst.CSTNode | cst.RemovalSentinel
Visit = Callable[[cst.CSTNode, Context], Iterator[Replacement]]


NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
"""What a mutator may be called: a sentence in snake_case."""


class MutatorError(Exception):
    """A mutator is written wrongly; the message is one sentence that starts with `file:line`."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where the bug truly happened."""

    url: str
    note: str
    """A few words on it."""


@dataclass(frozen=True, slots=True)
class Example:
    """A snippet and everything that the mutator makes of it, in reading order."""

    code: str
    mutants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mutator:
    """One bug, with all that it teaches. Made by `@mutator`."""

    name: str
    topic: str
    family: str
    """Id of the family of real bugs that it belongs to."""
    title: str
    lesson: str
    """The rule, what changes, why nobody noticed."""
    hints: tuple[str, ...]
    """Three, from far to near."""
    sightings: tuple[Sighting, ...]
    mutates: tuple[Example, ...]
    spares: tuple[str, ...]
    """Near misses: snippets that it must leave alone."""
    crash_is_the_bug: bool
    """A mutant that raises is what the bug looks like, not a slip of the mutator."""
    node_types: tuple[type[cst.CSTNode], ...]
    file: str
    line: int
    visit: Visit = field(repr=False, compare=False)
    """A node of one of `node_types` and its context in, replacements out."""

    @property
    def where(self) -> str:
        """`file:line` of the definition."""
        return f"{self.file}:{self.line}"


def mutator(
    *,
    topic: str = "",
    family: str = "",
    hints: Sequence[str] = (),
    sightings: Sequence[Sighting] = (),
    mutates: Mapping[str, str | Sequence[str]] = types.MappingProxyType({}),
    spares: Sequence[str] = (),
    rewrites: Mapping[str, str] = types.MappingProxyType({}),
    names: Mapping[str, str] = types.MappingProxyType({}),
    crash_is_the_bug: bool = False,
) -> Callable[[Callable[..., Iterator[Replacement] | None]], Mutator]:
    """Make a `Mutator` of the function below; raise `MutatorError` at an author's mistake.

    The function is a generator over one node, or over a node and its `Context`. To drop a statement
    it yields `cst.RemoveFromParent()`; the comment lines right above go with it, and a block's only
    statement stays.

    Where the bug is plainly "this expression becomes that", give `rewrites` instead
    (`{"$q - $k < $window": "$q - $k <= $window"}`, see `pattern`), with `names` for what a hole
    must be called (`{"window": "window|span"}`), and a function without parameters whose body is
    its docstring.
    """

    def decorate(function: Callable[..., Iterator[Replacement] | None]) -> Mutator:
        author = _Author(function)
        author.refuse_a_poor_name()
        if topic not in TOPICS:
            author.refuse(f"has the topic {topic!r}: name one of {', '.join(TOPICS)}")
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", family):
            author.refuse("has no family: give the id of the real bugs it resembles, in-kebab-case")
        if isinstance(hints, str) or len(hints) != 3 or not all(h.strip() for h in hints):
            author.refuse("needs exactly three hints: a thing to try, a place to look, the rule")
        if not sightings:
            author.refuse("has no sighting: link an issue or a fix where the bug truly happened")
        for sighting in sightings:
            if not re.fullmatch(r"https?://[^\s/]+\.\S+", sighting.url):
                author.refuse(f"has a sighting that is no web address: {sighting.url!r}")
        if not mutates:
            author.refuse("has no examples: map a snippet to its mutant in `mutates`")
        title, lesson = author.title_and_lesson()
        node_types, visit = (
            author.rewriter(rewrites, names) if rewrites else author.generator_function()
        )
        return Mutator(
            name=author.name,
            topic=topic,
            family=family,
            title=title,
            lesson=lesson,
            hints=tuple(hints),
            sightings=tuple(sightings),
            mutates=tuple(
                Example(code, (mutants,) if isinstance(mutants, str) else tuple(mutants))
                for code, mutants in mutates.items()
            ),
            spares=tuple(spares),
            crash_is_the_bug=crash_is_the_bug,
            node_types=node_types,
            file=author.file,
            line=author.line,
            visit=visit,
        )

    return decorate


class _Author:
    """Reads the decorated function, and says what its author got wrong."""

    def __init__(self, function: Callable[..., Iterator[Replacement] | None]) -> None:
        self.function = function
        self.name = function.__name__
        self.file = function.__code__.co_filename
        self.line = function.__code__.co_firstlineno

    def refuse(self, what: str) -> typing.NoReturn:
        raise MutatorError(f"{self.file}:{self.line}: `{self.name}` {what}")

    def refuse_a_poor_name(self) -> None:
        if not NAME.fullmatch(self.name):
            self.refuse("is not in snake_case: name the bug as a sentence, word_by_word")

    def title_and_lesson(self) -> tuple[str, str]:
        lines = inspect.cleandoc(self.function.__doc__ or "").splitlines()
        if not lines:
            self.refuse("has no docstring: its first line is the title, the rest the lesson")
        title, lesson = lines[0].strip(), "\n".join(lines[1:]).strip()
        if not lesson or lines[1].strip():
            self.refuse("has no lesson: leave a line free below the title, then tell the rule")
        return title, lesson

    def generator_function(self) -> tuple[tuple[type[cst.CSTNode], ...], Visit]:
        """Return the node types of the annotation, and the function in its two-argument form."""
        function = self.function
        if not inspect.isgeneratorfunction(function):
            self.refuse("is not a generator: yield each replacement")
        parameters = list(inspect.signature(function).parameters.values())
        if len(parameters) not in (1, 2):
            self.refuse("takes the node, and if it needs it a second parameter, the context")
        try:
            annotations = inspect.get_annotations(function, eval_str=True)
        except (NameError, AttributeError, TypeError, SyntaxError) as error:
            self.refuse(f"has an annotation that cannot be resolved ({error})")
        node_types = self._node_types(annotations.get(parameters[0].name))
        if len(parameters) == 1:
            return node_types, lambda node, _context: function(node)
        if annotations.get(parameters[1].name) is not Context:
            self.refuse(f"has a second parameter: annotate `{parameters[1].name}` with Context")
        return node_types, function

    def _node_types(self, annotation: object) -> tuple[type[cst.CSTNode], ...]:
        if annotation is None:
            self.refuse("does not say which node it wants: annotate the first parameter")
        members = typing.get_args(annotation) or (annotation,)
        node_types = tuple(m for m in members if isinstance(m, type) and issubclass(m, cst.CSTNode))
        if len(node_types) != len(members):
            self.refuse("is annotated with something else than libcst nodes, such as cst.Call")
        return node_types

    def rewriter(
        self, rewrites: Mapping[str, str], names: Mapping[str, str]
    ) -> tuple[tuple[type[cst.CSTNode], ...], Visit]:
        """Return what the `rewrites` amount to as a generator function."""
        if inspect.signature(self.function).parameters or inspect.isgeneratorfunction(
            self.function
        ):
            self.refuse("has `rewrites`: the function then takes nothing and is its docstring")
        try:
            node_types, rewrite = rewriter(rewrites, names)
        except ValueError as error:
            self.refuse(f"has a rewrite that does not hold: {error}")
        return node_types, lambda node, _context: rewrite(node)
