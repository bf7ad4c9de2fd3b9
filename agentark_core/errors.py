"""Errors that a user can act on. Each message names the file, row or key and the remedy; the CLI prints it in one
line and exits with `exit_code`."""

from __future__ import annotations


class AgentArkError(ValueError):
    """Base of all errors that are the user's to mend (exit code 2)."""

    exit_code = 2


class ConfigError(AgentArkError):
    """A config file or override is wrong."""


class InvalidName(AgentArkError):
    """A name that could leave its folder or hide in a listing (F22)."""


class DataError(AgentArkError):
    """An input file is missing, broken, or has too many bad rows (F23, F25)."""


class EmptyDataset(DataError):
    """Nothing is left to work on (F26)."""


class ModelError(AgentArkError):
    """A model directory is missing something or holds code or pickles (F38)."""


class StorageFull(AgentArkError):
    """No space left; the message names the path and the bytes needed (F10)."""

    exit_code = 3


class CorruptData(AgentArkError):
    """Committed data does not match its checksum (F24)."""

    exit_code = 3


class StaleEpoch(AgentArkError):
    """A lease moved on while its holder slept; its commit is refused (F17)."""

    exit_code = 4


class AlreadyRunning(AgentArkError):
    """Another live process holds the lease (F16). A scheduler may take this as success: exit code 0."""

    exit_code = 0


class CellsFailed(AgentArkError):
    """Some cells of a sweep failed; the others are finished and tabled. Start it again to make those that failed."""

    exit_code = 7


class EngineError(AgentArkError):
    """An engine could not start or died too often."""

    exit_code = 5


class EngineDied(EngineError):
    """The engine behind an actor is gone or stands still; the actor restarts it and its requests go again (F04)."""


class Stopped(AgentArkError):
    """A run ended in order before its end: a cap was reached or it was asked to stop. Start it again to go on (F06)."""

    exit_code = 143


class NoAnswers(EngineError):
    """Most of the first questions ended without any answer: the run would be waste (F27)."""
