"""The page's program: the modules of page/scripts put together, so that one script element holds them all."""

from __future__ import annotations

import re
from importlib import resources

# The forms that the modules keep to; a browser, an editor and Node read the same files as they are.
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";$', re.M)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|function) ([\w$]+))", re.M)
_FIRST = "start"


def program() -> str:
    """Every module after those that it imports, each in a scope of its own; "start" is the last.

    Raises AssertionError where modules import one another in a circle, or by a form that is not known here.
    """
    texts: dict[str, str] = {}
    _collect(_FIRST, texts, ())
    made = "\n".join(_scoped(name, text) for name, text in texts.items())
    return f'"use strict";\n(() => {{\nconst modules = {{}};\n{made}\n}})();'


def _collect(name: str, texts: dict[str, str], above: tuple[str, ...]) -> None:
    if name in above:
        raise AssertionError(f"scripts import in a circle: {' > '.join((*above, name))}")
    if name in texts:
        return
    text = (
        resources.files("jaxtl.report").joinpath("page", "scripts", f"{name}.js").read_text(encoding="utf-8")
    )
    for imported in _IMPORT.finditer(text):
        _collect(imported[2], texts, (*above, name))
    texts[name] = text


def _scoped(name: str, text: str) -> str:
    names = _EXPORT.findall(text)
    body = _EXPORT.sub("", _IMPORT.sub(r"const \1 = modules.\2;", text)).rstrip()
    if left := re.search(r"^(?:import|export)\b.*", body, re.M):
        raise AssertionError(f"scripts/{name}.js: a form that is not known here: {left[0]}")
    return f"// {name}.js\nmodules.{name} = (() => {{\n{body}\nreturn {{ {', '.join(names)} }};\n}})();\n"
