"""The one exception that jaxtl raises for what a user can mend."""


class JaxtlError(ValueError):
    """A bad input, setting or file.

    Its message is one line that says what is wrong, where, and what to do; the command line prints
    that line alone and exits with code 2.
    """
