"""The page's program, put together of its modules."""

import re
from importlib import resources

from jaxtl.report.program import program

SCRIPTS = resources.files("jaxtl.report").joinpath("page", "scripts")


def test_every_module_is_in_the_program_after_what_it_imports():
    text = program()
    order = re.findall(r"^modules\.(\w+) = ", text, re.M)
    files = {path.name.removesuffix(".js"): path.read_text(encoding="utf-8") for path in SCRIPTS.iterdir()}
    assert sorted(order) == sorted(files)
    for name, source in files.items():
        for imported in re.findall(r'from "\./(\w+)\.js"', source):
            assert order.index(imported) < order.index(name)
            for wanted in re.search(rf"import \{{([^}}]*)\}} from \"\./{imported}\.js\"", source)[1].split(
                ","
            ):
                kinds = r"(?:async )?(?:const|function)"
                assert re.search(
                    rf"^export {kinds} {re.escape(wanted.strip())}\b", files[imported], re.M
                ) or (wanted.strip() == "$")


def test_modules_can_be_read_at_a_sitting():
    assert all(len(path.read_text(encoding="utf-8").splitlines()) < 400 for path in SCRIPTS.iterdir())
