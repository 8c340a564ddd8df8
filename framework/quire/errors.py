"""The errors that a user meets: one line each, naming the field, the value and what is allowed."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in what the user asked for. The command line prints it as one line and exits with 2."""


class MissingCapability(UserError):
    """A part was asked for something it cannot do; the message says what is missing and what offers it."""


class RequestRefused(UserError):
    """One request can never be served; the others go on."""
