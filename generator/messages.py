"""What a candidate reads: English in the code, another language from a catalogue of gettext.

LANGUAGE, LC_ALL, LC_MESSAGES and LANG choose, as everywhere. The catalogues are
`<language>/LC_MESSAGES/halfhour.mo` in `locale/` beside this file, or in the folder that
HALFHOUR_LOCALE names. `locale/halfhour.pot`, which `make messages` writes, holds every message.

What is kept is never translated: no file of a puzzle, no log; nor are the names and verdicts that a
script reads under `--json`.
"""

from __future__ import annotations

import gettext
import os
import struct
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

DOMAIN = "halfhour"
FOLDER = Path(__file__).parent / "locale"

_CHOOSE = ("HALFHOUR_LOCALE", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


def tr(message: str, /, **values: object) -> str:
    """Return a message in the reader's language, with its `{places}` filled in."""
    return _filled(_here().gettext(message), message, values)


def tr_n(one: str, many: str, /, count: int, **values: object) -> str:
    """Return the message that fits the number, which is its place `{count}`."""
    values = {"count": count, **values}
    return _filled(_here().ngettext(one, many, count), one if count == 1 else many, values)


def verdict(name: str) -> str:
    """Return the name of a verdict in the reader's language."""
    match name:
        case "fixed":
            return tr("fixed")
        case "not_fixed":
            return tr("not fixed")
        case "invalid":
            return tr("invalid")
        case "environment":
            return tr("environment")
    return name.replace("_", " ")


def _filled(translated: str, message: str, values: Mapping[str, object]) -> str:
    if not values:
        return translated
    try:
        return translated.format(**values)
    except (LookupError, ValueError, AttributeError):  # a slip of the translator's
        return message.format(**values)


def _here() -> gettext.NullTranslations:
    return _catalogue(*(os.environ.get(name, "") for name in _CHOOSE))


@lru_cache(maxsize=4)
def _catalogue(folder: str, *_: str) -> gettext.NullTranslations:
    try:
        return gettext.translation(DOMAIN, folder or FOLDER, fallback=True)
    except (OSError, ValueError, LookupError, struct.error):  # a catalogue that is damaged
        return gettext.NullTranslations()
