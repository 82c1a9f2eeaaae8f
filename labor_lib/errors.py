"""The one exception that means: the input is at fault, and here is the mend."""


class InputError(ValueError):
    """Bad input from outside: a file, a folder, a setting.

    The message is one line that names the file or setting and says how to mend it.
    The command line prints it without a traceback and exits with code 2.
    """
