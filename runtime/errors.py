"""What can go wrong with the processes and servers this package runs."""

from __future__ import annotations


class RuntimeFaultError(Exception):
    """A process or an embedded server could not do its work. The text is for the operator."""


class InUseError(RuntimeFaultError):
    """Another live process holds the directory."""


class NotInstalledError(RuntimeFaultError):
    """No usable server program was found. The text names what to install."""


class ProcessDiedError(RuntimeFaultError):
    """A process ended by itself. The text has its exit code and the last lines of its log."""


class NotReadyError(RuntimeFaultError):
    """A process was not ready at its deadline. The text has the last lines of its log."""
