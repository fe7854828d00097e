"""What can go wrong with the processes and servers this package runs."""

from __future__ import annotations


class RuntimeFaultError(Exception):
    """A process or an embedded server could not do what was asked; the text is for the operator."""


class InUseError(RuntimeFaultError):
    """Another live process holds the directory."""


class NotInstalledError(RuntimeFaultError):
    """No usable server program was found; the text names what to install."""


class ProcessDiedError(RuntimeFaultError):
    """A process ended by itself; the text carries its exit and the last lines of its log."""


class NotReadyError(RuntimeFaultError):
    """A process was still not ready at its deadline; the text carries the last lines of its log."""
