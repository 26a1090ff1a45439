"""Which mutators there are: this package's, found by walking its folders, and installed plugins'.

A plugin names a mutator, or a module or package that holds some, under the entry point group
`halfhour.mutators`. A plugin that does not load stops the run.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules, walk_packages
from types import ModuleType

from halfhour.mutators._api import TOPICS, Mutator, MutatorError

GROUP = "halfhour.mutators"


def all_mutators() -> tuple[Mutator, ...]:
    """Return every mutator, ordered by topic, then by name; raise MutatorError on a broken one."""
    return catalogue(built_in_mutators(), plugin_mutators(entry_points(group=GROUP)))


def find_mutator(name: str) -> Mutator:
    """Return the mutator of that name; raise LookupError if there is none."""
    for mutator in all_mutators():
        if mutator.name == name:
            return mutator
    raise LookupError(f"no mutator is named {name!r}")


@functools.cache
def built_in_mutators() -> tuple[Mutator, ...]:
    """Return the mutators of this package: one per file, in the folder of its topic."""
    package = import_module(__package__ or GROUP)
    return catalogue(
        only_mutator(import_module(f"{package.__name__}.{topic}.{module.name}"), topic)
        for topic in TOPICS
        if topic in {found.name for found in iter_modules(package.__path__)}
        for module in iter_modules(import_module(f"{package.__name__}.{topic}").__path__)
        if not module.name.startswith("_")
    )


def plugin_mutators(plugins: Iterable[EntryPoint]) -> tuple[Mutator, ...]:
    """Return the mutators that plugins bring."""
    return tuple(
        mutator
        for plugin in sorted(plugins, key=lambda p: (p.name, p.value))
        for mutator in _from_plugin(plugin)
    )


def mutators_in_file(file: Path) -> tuple[Mutator, ...]:
    """Return the mutators that a file defines, wherever it lies; raise MutatorError if none."""
    spec = spec_from_file_location(f"halfhour_author_{file.stem}", file.resolve())
    if spec is None or spec.loader is None:
        raise MutatorError(f"{file}:1: is no Python file")
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except MutatorError:
        raise
    except Exception as error:
        raise MutatorError(f"{_origin(error)}: {file.name} does not load: {_why(error)}") from error
    found = tuple(_own_mutators(module))
    if not found:
        raise MutatorError(f"{file}:1: holds no mutator; decorate a function with @mutator(...)")
    return found


def catalogue(*groups: Iterable[Mutator]) -> tuple[Mutator, ...]:
    """Return the mutators in the catalogue's order; raise MutatorError if two share a name."""
    by_name: dict[str, Mutator] = {}
    for group in groups:
        for mutator in group:
            first = by_name.setdefault(mutator.name, mutator)
            if first is not mutator:
                raise MutatorError(
                    f"{mutator.where}: `{mutator.name}` is already defined at {first.where}; "
                    "rename one of them"
                )
    return tuple(sorted(by_name.values(), key=lambda m: (TOPICS.index(m.topic), m.name)))


def only_mutator(module: ModuleType, topic: str) -> Mutator:
    """Return the mutator of a file of ours; raise MutatorError if it breaks the house's rules."""
    own = list(_own_mutators(module))
    file_name = module.__name__.rpartition(".")[2]
    if [mutator.name for mutator in own] != [file_name]:
        raise MutatorError(
            f"{module.__file__}:1: the file must hold one mutator, named `{file_name}` as itself; "
            f"it holds {', '.join(m.name for m in own) or 'none'}"
        )
    if own[0].topic != topic:
        raise MutatorError(
            f"{own[0].where}: `{file_name}` lies in {topic}/ but its topic is {own[0].topic}; "
            "move the file or change the topic"
        )
    return own[0]


def _own_mutators(module: ModuleType) -> Iterator[Mutator]:
    """Yield the mutators defined in a module, not those that it imports."""
    for value in vars(module).values():
        if isinstance(value, Mutator) and value.file == module.__file__:
            yield value


def _from_plugin(plugin: EntryPoint) -> tuple[Mutator, ...]:
    try:
        loaded = plugin.load()
        modules = list(_modules(loaded)) if isinstance(loaded, ModuleType) else []
    except MutatorError:
        raise
    except Exception as error:
        raise MutatorError(
            f"{_origin(error)}: the plugin `{plugin.name} = {plugin.value}` does not load: "
            f"{_why(error)}"
        ) from error
    if isinstance(loaded, Mutator):
        return (loaded,)
    found = tuple(mutator for module in modules for mutator in _own_mutators(module))
    if not found:
        where = getattr(loaded, "__file__", None) or plugin.value
        raise MutatorError(
            f"{where}:1: the plugin `{plugin.name} = {plugin.value}` brings no mutator; "
            "let it name a mutator, or a module that defines one"
        )
    return found


def _modules(module: ModuleType) -> Iterator[ModuleType]:
    """Yield a module, and if it is a package every module below it."""
    yield module
    for below in walk_packages(getattr(module, "__path__", ()), f"{module.__name__}."):
        yield import_module(below.name)


def _why(error: Exception) -> str:
    what = error.msg if isinstance(error, SyntaxError) else error
    return f"{type(error).__name__}: {what}"


def _origin(error: Exception) -> str:
    """Return `file:line` of the frame that raised, skipping the import system's own."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    return f"{frames[-1].filename}:{frames[-1].lineno}"
