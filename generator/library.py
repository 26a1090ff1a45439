"""Find subjects: the built-in ones, those of installed plugins, and a folder of the user's own.

Promises and public names are read from the text with `ast`, never by importing: listing
subjects costs no torch.
"""

from __future__ import annotations

import ast
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from .errors import UnsoundSubject, UsageError
from .records import Promise, Subject

BUILT_IN = Path(__file__).resolve().parent.parent / "solutions"
KINDS = "kinds.toml"
"""Beside a subject's file, if it was traced: what its local variables held."""
PLUGIN_GROUP = "halfhour.subjects"


def subjects() -> tuple[Subject, ...]:
    """Return every known subject, by name.

    A plugin's entry point in the group `halfhour.subjects` names a package whose folders are
    subjects. Raises UnsoundSubject where a subject is incomplete or a name is taken twice.
    """
    return tuple(load_subject(folder) for _, folder in sorted(folders().items()))


def folders() -> dict[str, Path]:
    """Return the folder of every subject, by name. Raises UnsoundSubject for a name taken twice."""
    found: dict[str, Path] = {}
    for shelf in (BUILT_IN, *_plugin_shelves()):
        for folder in sorted(shelf.iterdir()):
            if not (folder / "subject.toml").is_file():
                continue
            if folder.name in found:
                raise UnsoundSubject(
                    f"two subjects are named {folder.name}: {found[folder.name]} and {folder}"
                )
            found[folder.name] = folder
    return found


def find_subject(name: str) -> Subject:
    """Return the subject of that name, and read no other.

    Raises UsageError with the nearest names, UnsoundSubject as `subjects` does.
    """
    return load_subject(find_folder(name))


def find_folder(name: str) -> Path:
    """Return the folder of the subject of that name. Raises as `find_subject` does."""
    known = folders()
    if name not in known:
        raise UsageError(unknown("subject", name, known))
    return known[name]


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that there is no such name, and which ones are near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return f"there is no {kind} named {name!r}; {hint}"


def load_subject(folder: Path) -> Subject:
    """Read one subject's folder. Raises UnsoundSubject naming the file and what is wrong."""
    name = folder.name
    card = _card(folder / "subject.toml")
    source = _text(folder / f"{name}.py")
    visible_tests = _text(folder / "test_visible.py")
    hidden_tests = _text(folder / "test_hidden.py")
    return Subject(
        name=name,
        title=_string(card, "title", folder),
        topics=_strings(card, "topics", folder),
        description=_string(card, "description", folder),
        reference=_string(card, "reference", folder),
        source=source,
        visible_tests=visible_tests,
        hidden_tests=hidden_tests,
        promises=promises(hidden_tests, folder / "test_hidden.py"),
        visible_promises=promises(visible_tests, folder / "test_visible.py"),
        public_names=public_names(source, folder / f"{name}.py"),
        kinds=_kinds(folder / KINDS),
        flow=_picture(card, folder),
    )


def kinds_text(kinds: Mapping[str, str]) -> str:
    """Return what `kinds.toml` says of a traced file."""
    lines = [f'"{variable}" = "{kind}"' for variable, kind in sorted(kinds.items())]
    return "\n".join(["# Written by: halfhour subjects trace", *lines]) + "\n"


def _kinds(path: Path) -> tuple[tuple[str, str], ...]:
    """Return what the file's local variables held when it was traced; nothing if it was not."""
    if not path.is_file():
        return ()
    found = _card(path)
    return tuple((name, kind) for name, kind in sorted(found.items()) if isinstance(kind, str))


def promises(tests: str, path: Path) -> tuple[Promise, ...]:
    """Return the promises of a test module, in its order: name, docstring line, symptom."""
    found = []
    for node in _parse(tests, path).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            text = (ast.get_docstring(node) or "").partition("\n")[0]
            if not text:
                raise UnsoundSubject(f"{path}:{node.lineno}: {node.name} has no docstring")
            found.append(Promise(name=node.name, text=text, symptom=_symptom(node)))
    if not found:
        raise UnsoundSubject(f"{path}: holds no test function")
    return tuple(found)


def public_names(source: str, path: Path) -> tuple[str, ...]:
    """Return the dotted names of public functions, classes and methods, in reading order."""
    names: list[str] = []

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if node.name.startswith("_"):
                continue
            dotted = prefix + node.name
            if dotted not in names:
                names.append(dotted)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{dotted}.")

    visit(_parse(source, path).body, "")
    return tuple(names)


def _plugin_shelves() -> list[Path]:
    shelves: list[Path] = []
    for point in sorted(entry_points(group=PLUGIN_GROUP), key=lambda p: (p.name, p.value)):
        spec = find_spec(point.value)
        locations = spec.submodule_search_locations if spec else None
        if not locations:
            raise UnsoundSubject(
                f"the plugin {point.name} names {point.value}, which is no installed package"
            )
        shelves.extend(Path(location) for location in locations)
    return shelves


def _symptom(function: ast.FunctionDef) -> str:
    for decorator in function.decorator_list:
        match decorator:
            case ast.Call(
                func=ast.Attribute(attr="symptom"), args=[ast.Constant(value=str() as text)]
            ):
                return text
    return ""


def _parse(text: str, path: Path) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise UnsoundSubject(f"{path}:{error.lineno}: {error.msg}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnsoundSubject(f"{path}: cannot be read ({error})") from error


def _card(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise UnsoundSubject(f"{path}: {error}") from error


def _string(card: dict[str, object], key: str, folder: Path) -> str:
    value = card.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UnsoundSubject(f"{folder / 'subject.toml'}: `{key}` must be a sentence")
    return value.strip()


def _picture(card: dict[str, object], folder: Path) -> str:
    """Return the text art of the card; "" where there is none, as it is optional."""
    value = card.get("flow", "")
    if not isinstance(value, str):
        raise UnsoundSubject(f"{folder / 'subject.toml'}: `flow` must be a text of some lines")
    return value.strip("\n").rstrip()


def _strings(card: dict[str, object], key: str, folder: Path) -> tuple[str, ...]:
    value = card.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise UnsoundSubject(f"{folder / 'subject.toml'}: `{key}` must be a list of strings")
    return tuple(value)
