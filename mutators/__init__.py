"""The bugs that really shipped, one per file.

An author imports from here; modules with an underscore are machinery.
"""

from halfhour.mutators._api import NAME, TOPICS, Example, Mutator, MutatorError, Sighting, mutator
from halfhour.mutators._context import Context, near_pair, walk
from halfhour.mutators._examples import check_examples
from halfhour.mutators._idioms import (
    argument,
    arguments,
    assigned,
    assignments,
    called,
    edge_moved_up,
    integer,
    is_called,
    literal,
    mentions,
    swapped,
    uncommented,
    value_of,
)
from halfhour.mutators._pattern import Pattern, name_of, pattern, same
from halfhour.mutators._registry import (
    all_mutators,
    built_in_mutators,
    find_mutator,
    mutators_in_file,
    plugin_mutators,
)
from halfhour.mutators._rewrite import fill, grouped
from halfhour.mutators._sites import Site, find_sites

__all__ = [
    "NAME",
    "TOPICS",
    "Context",
    "Example",
    "Mutator",
    "MutatorError",
    "Pattern",
    "Sighting",
    "Site",
    "all_mutators",
    "argument",
    "arguments",
    "assigned",
    "assignments",
    "built_in_mutators",
    "called",
    "check_examples",
    "edge_moved_up",
    "fill",
    "find_mutator",
    "find_sites",
    "grouped",
    "integer",
    "is_called",
    "literal",
    "mentions",
    "mutator",
    "mutators_in_file",
    "name_of",
    "near_pair",
    "pattern",
    "plugin_mutators",
    "same",
    "swapped",
    "uncommented",
    "value_of",
    "walk",
]
