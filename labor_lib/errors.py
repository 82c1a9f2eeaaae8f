"""The one exception that means: the input is at fault, and this is how to fix it."""

from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from outside: a file, a folder, a setting.

    The message is one line that names the file or setting and says how to fix it.
    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, message: str = ""):
        # torch raises an error of a DataLoader worker again with the worker's traceback for a
        # message; what was said there stands at its end
        said = message.rpartition("\nlabor_lib.errors.InputError: ")[2]
        super().__init__(" ".join(said.splitlines()))


def one_of(what: str, name: str, known: Iterable[str]) -> str:
    """The name; raises InputError with what there is where it is not among it."""
    if name not in known:
        raise InputError(f"unknown {what} '{name}': choose one of {', '.join(known)}")
    return name


class Waiting(InputError):
    """A run waits for people: their answers are missing. The command line exits with code 3."""
