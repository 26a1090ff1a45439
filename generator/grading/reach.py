"""What a submission newly reaches for: packages, and what no inference file has any use for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import TypeGuard

from .reading import Text, last_name

_HARMLESS = frozenset({"__future__", "typing"})
_BUILTINS = frozenset(
    {"eval", "exec", "compile", "open", "input", "globals", "locals", "breakpoint"}
    | {"__import__", "__builtins__", "__loader__", "__spec__"}
)
_ATTRIBUTES = frozenset(
    {"_getframe", "_current_frames", "settrace", "setprofile", "meta_path", "path_hooks"}
    | {"f_back", "f_globals", "f_locals", "f_code", "tb_frame", "tb_next", "gi_frame", "cr_frame"}
    | {"__globals__", "__code__", "__closure__", "__subclasses__", "__builtins__", "__import__"}
    | {"__wrapped__", "__traceback__", "get_objects", "get_referrers", "get_referents"}
    | {"import_module", "load_library", "cpp_extension", "_exit", "popen"}
)
_OF_MODULES = frozenset({"modules", "environ", "system", "fork", "hub"})
"""Words that others use too: only `sys.modules` and their like."""
_METHODS = frozenset(
    {"__eq__", "__ne__", "__hash__", "__bool__", "__torch_function__", "__torch_dispatch__"}
    | {"__array_ufunc__", "__array_function__", "__array__", "__reduce__", "__reduce_ex__"}
    | {"__getattr__", "__getattribute__", "__setattr__", "__class_getitem__", "__instancecheck__"}
    | {"__subclasscheck__", "__del__", "__set_name__", "__init_subclass__", "__getstate__"}
)
"""Methods that run where nobody calls them."""
_TEXTS = re.compile(
    r"test_visible|test_hidden|conftest|pytest|halfhour|sys\.modules|__import__|/proc/|answer\.sealed"
)
_HIDDEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]")


def imported_by(*files: Text) -> frozenset[str]:
    """Return the packages that files import, anywhere in them."""
    return frozenset(package for file in files for package, _, _ in _imports(file))


def reached_by(*files: Text) -> frozenset[str]:
    """Return what else files reach for, in the words of `new_reach`."""
    return frozenset(words for file in files for words, _ in _reach(file))


def new_imports(known: frozenset[str], after: Text) -> Iterator[tuple[str, int]]:
    """Yield the imports of packages that are not known, words and a line each."""
    told = set(known | _HARMLESS)
    for package, words, line in _imports(after):
        if package not in told:
            told.add(package)
            yield f"newly imports {words}", line


def new_reach(known: frozenset[str], after: Text) -> Iterator[tuple[str, int]]:
    """Yield what else a file reaches for that is not known, words and a line each."""
    told = set(known)
    for words, line in _reach(after):
        if words not in told:
            told.add(words)
            yield words, line


def hidden_characters(source: str) -> Iterator[tuple[str, int]]:
    """Yield the lines on which a text holds characters that nobody sees."""
    for number, line in enumerate(source.split("\n"), start=1):
        if found := _HIDDEN.search(line):
            yield f"holds the invisible character U+{ord(found[0]):04X}", number


def _imports(text: Text) -> Iterator[tuple[str, str, int]]:
    """Yield the top package, the words for it, and the line of each import."""
    for node in text.nodes:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield alias.name.partition(".")[0], alias.name, node.lineno
            case ast.ImportFrom(level=0, module=str() as module):
                yield module.partition(".")[0], module, node.lineno
            case ast.ImportFrom(module=module, level=level):
                name = "." * level + (module or "")
                yield name, f"{name}, beside itself", node.lineno
            case ast.Call(func=function, args=[ast.Constant(value=str() as module), *_]):
                if last_name(function) in ("__import__", "import_module"):
                    yield module.partition(".")[0], f"{module}, by a call", node.lineno


def _reach(text: Text) -> Iterator[tuple[str, int]]:
    bound = {node.id for node in text.nodes if _is_stored(node)}
    imported = set(_imported_names(text))
    for node in text.nodes:
        match node:
            case ast.Name(id=name) if name in _BUILTINS and name not in bound:
                yield f"uses {name}", node.lineno
            case ast.Attribute(attr=name, value=value) if name in _ATTRIBUTES or (
                name in _OF_MODULES and _is_module(value)
            ):
                yield f"reaches for {name}", node.lineno
            case ast.FunctionDef(name=name) if name in _METHODS:
                yield f"defines {name}", node.lineno
            case ast.Assign(targets=[*_, ast.Name(id=name)]) if name in _METHODS:
                yield f"defines {name}", node.lineno
            case ast.Global(names=names):
                yield f"changes {', '.join(names)} of the module while it works", node.lineno
            case ast.Constant(value=str() as words) if id(node) not in text.prose:
                if found := _TEXTS.search(words):
                    yield f"has {found[0]} in a text", node.lineno
            case ast.Attribute(ctx=ast.Store(), value=value) if _root(value) in imported:
                yield f"puts something else into {_root(value)}", node.lineno
            case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[value, *_]):
                if _root(value) in imported:
                    yield f"puts something else into {_root(value)}", node.lineno


def _is_stored(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _is_module(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("sys", "os", "torch")


def _imported_names(text: Text) -> Iterator[str]:
    for node in text.nodes:
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                for alias in names:
                    yield (alias.asname or alias.name).partition(".")[0]


def _root(node: ast.expr) -> str:
    """Return the `torch` of `torch.nn.functional`."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
