"""Everything halfhour raises on purpose.

HalfhourError
├── UsageError          the command was asked for something that is not there      exit 2
├── InvalidSubmission   the candidate's file cannot be judged                      exit 3
└── EnvironmentFault    ours or the machine's; never the candidate's failure       exit 4
    ├── UnsoundPuzzle   a puzzle folder or pack is damaged, or of a newer format
    ├── UnsoundSubject  a correct file or its promises do not hold
    ├── AuthorError     a mutator is written wrongly; the message starts with file:line
    └── JudgeError      the judge itself failed

Every message is one sentence for a person. Only the command line prints and exits.
"""


class HalfhourError(Exception):
    """Base of all; `exit_code` is what the command line exits with."""

    exit_code = 4


class UsageError(HalfhourError):
    """Seen by whoever typed the command."""

    exit_code = 2


class InvalidSubmission(HalfhourError):
    """Seen by the candidate: the file does not load, is too large, is not text."""

    exit_code = 3


class EnvironmentFault(HalfhourError):
    """Seen by whoever runs halfhour: no torch, no such device, no space."""

    exit_code = 4


class UnsoundPuzzle(EnvironmentFault):
    """Seen by the candidate and the publisher: this folder cannot be trusted."""


class UnsoundSubject(EnvironmentFault):
    """Seen by an author: the correct file breaks its own promises."""


class AuthorError(EnvironmentFault):
    """Seen by an author of a mutator; starts with `file:line`."""


class JudgeError(EnvironmentFault):
    """Seen by whoever runs halfhour: the judge did not finish its work."""
