"""The one exception that jaxtl raises for what a user can mend, and the remedy that many share."""


class JaxtlError(ValueError):
    """A bad input, setting or file.

    Its message is one line that says what is wrong, where, and what to do; the command line prints
    that line alone and exits with code 2.
    """


def install(extra: str) -> str:
    """What to do where a library of an extra is missing. jaxtl is on no index, so that its name is no help.

    Args:
        extra: a name of pyproject.toml's optional dependencies; empty for jaxtl alone.
    """
    what = f".[{extra}]" if extra else "."
    return f'run pip install "{what}" in the checkout of jaxtl'
