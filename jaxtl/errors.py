"""The one exception that jaxtl raises for what a user can mend, how texts of strangers are shown, and the
remedies that many share."""

import unicodedata

# How an error about a damaged file ends, for who knows how that is done to say it instead.
MAKE_AGAIN = "make it again"

# Control characters, halves of letters, ends of lines and formats; of the last, these join letters of some
# scripts and of emoji, and move nothing.
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_JOINERS = "\u200c\u200d"
# Of a message; fifty files may be named in one.
_LETTERS = 8_000


class JaxtlError(ValueError):
    """A bad input, setting or file.

    Its message is one line that says what is wrong, where, and what to do; the command line prints
    that line alone and exits with code 2. What names and files of strangers bring into it is `shown`.
    """

    def __init__(self, message: object = "") -> None:
        text = shown(str(message))
        if len(text) > _LETTERS:
            # Where it is stands first, and what to do last.
            text = f"{text[: _LETTERS // 2]} [...] {text[-_LETTERS // 2 :]}"
        super().__init__(text)


def shown(text: str) -> str:
    """A text as a terminal may show it: one line, in which what it would obey is spelled, such as \\x1b.

    So are marks that turn the direction of writing, and what no file can hold. The names of files and classes
    are anybody's; a record keeps them as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_spelled, text))


def _spelled(letter: str) -> str:
    if unicodedata.category(letter) not in _HIDDEN or letter in _JOINERS:
        return letter
    return letter.encode("unicode_escape").decode("ascii")


def install(extra: str) -> str:
    """What to do where a library of an extra is missing. jaxtl is on no index, so that its name is no help.

    Args:
        extra: a name of pyproject.toml's optional dependencies; empty for jaxtl alone.
    """
    what = f".[{extra}]" if extra else "."
    return f'run pip install "{what}" in the checkout of jaxtl'
