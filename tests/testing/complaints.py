"""What a suite says of a plugin."""

import pytest


def complaint(suite: object, only: str = "test_") -> str:
    """What the first failing test of `suite`, whose name begins so, says; empty if all pass."""
    names = [name for name in dir(suite) if name.startswith(only)]
    assert names, f"no test begins with {only}"
    for name in names:
        try:
            getattr(suite, name)()
        except (Exception, pytest.fail.Exception) as error:
            return f"{name}: {type(error).__name__}: {error}"
    return ""
