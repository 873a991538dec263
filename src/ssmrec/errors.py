"""Errors a user can mend: each message says what is wrong, where, and what to do about it."""


class SsmrecError(Exception):
    """Base of all errors that ssmrec raises on purpose. The CLI prints it as one line, exit code 2.

    A message is one line whatever it quotes: line breaks in names and values become blanks.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(" ".join(str(message).splitlines()))


class DataError(SsmrecError):
    """A file, column or row cannot be used as interactions."""


class ConfigError(SsmrecError):
    """A setting is unknown, out of range, or does not fit another one."""


class RunError(SsmrecError):
    """A run folder cannot be read, written or continued."""
