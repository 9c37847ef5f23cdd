"""jaxtl as a user installs it, outside the checkout, with the oldest or the newest libraries it may have.

    python tests/installed.py lowest
    python tests/installed.py newest --python 3.13 --extra test

A source archive is built, and the wheel from it. An environment of its own gets the wheel, and of every
library in pyproject.toml the lowest version that its bound allows, or the newest that there is. Whether their
requirements agree is asked, a small run is made and read in another folder, and some tests run beside a tree
without the package. It needs uv (`pip install uv`), a package index and 2 GB in the temporary folder, and
takes some minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
# Readers and writers of files, quick to install; `--extra test` adds Keras, TensorFlow and Sphinx.
EXTRAS = ("convert", "onnx", "parquet")
# Of the extra `test`, what any test needs.
TOOLS = re.compile(r"pytest|hypothesis")
SMALL_RUN = (
    *("run", "--samples", "60", "--train-samples", "70", "--epochs", "1", "--perplexity", "8"),
    *("--image-size", "32", "--out", "small", "--quiet"),
)
OF_THE_RUN = (
    "report.html",
    "scores.csv",
    "model.safetensors",
    "figures/after.png",
    "embeddings/after_lle.npz",
)
READ_IT = (
    "check small",
    "show small --json",
    "report small --out page.html",
    "export small --to csv --out images.csv",
    "run --resume small",
    "reduce small/features/after.npz --method pca --out pca.npz",
    "doctor",
)
# One module for each library that is called, and what breaks when a library renames things.
SELECTION = (
    *("imports", "methods", "cli", "cli_output", "terminal", "records", "weights", "data", "data_folder"),
    *("extraction", "finetuning", "reduction", "lle", "neighbors", "plots", "export", "cores", "programs"),
    *("experiment", "scoring", "metrics", "python"),
)
TOLD = (
    *("jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn", "openTSNE", "matplotlib", "pillow"),
    *("click", "rich", "safetensors", "tensorflow-datasets"),
)


def main() -> int:
    options = parsed()
    with tempfile.TemporaryDirectory(prefix="jaxtl-installed-") as folder:
        try:
            for words in steps(Path(folder), options):
                print(f"{words}", flush=True)
        except subprocess.CalledProcessError as error:
            print(f"failed with {error.returncode}: {' '.join(map(str, error.cmd))[:300]}", file=sys.stderr)
            return 1
    print(f"{options.libraries} libraries, Python {options.python}: all well")
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("libraries", choices=RESOLUTIONS)
    parser.add_argument("--python", default=sys.executable, help="a version or a path")
    parser.add_argument("--extra", action="append", help=f"instead of {', '.join(EXTRAS)}; may be repeated")
    parser.add_argument("--tests", nargs="*", default=SELECTION, help="such as cli; none: no tests")
    return parser.parse_args()


def steps(folder: Path, options: argparse.Namespace):
    """Does everything, and tells what has been done."""
    began = time.monotonic()

    def done(what: str) -> str:
        return f"{time.monotonic() - began:6.0f} s  {what}"

    wheel, tree = built(folder)
    yield done(f"built {wheel.name}")
    python = installed(folder, wheel, options)
    yield done(f"installed, and its requirements agree: {versions(python)}")
    run_small(python, folder)
    yield done("a small run, read again")
    if options.tests:
        run_tests(python, tree, options)
        yield done(f"{len(options.tests)} modules of tests")


def built(folder: Path) -> tuple[Path, Path]:
    """The wheel, and the unpacked source archive without what the wheel holds."""
    call("uv", "build", "--quiet", "--out-dir", folder / "dist", ROOT)
    (wheel,), (archive,) = ((folder / "dist").glob(pattern) for pattern in ("*.whl", "*.tar.gz"))
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "tree", filter="data")
    (tree,) = (folder / "tree").iterdir()
    for package in ("jaxtl", "weights_convert"):
        (tree / package).rename(folder / f"without_{package}")
    return wheel, tree


def installed(folder: Path, wheel: Path, options: argparse.Namespace) -> Path:
    """The Python of a new environment that holds the wheel and what it requires."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = options.extra or EXTRAS
    call("uv", "venv", "--quiet", "--python", options.python, folder / "env")
    python = folder / "env" / "bin" / "python"
    tools = folder / "tools.in"
    tools.write_text("\n".join(need for need in extras["test"] if TOOLS.match(need)))
    # A library that would have to be compiled has a version that is too old for this Python, not for jaxtl.
    ready_made = [f"--only-binary={name}" for name in names((project["dependencies"], *extras.values()))]
    command = ["uv", "pip", "compile", "--quiet", "--python", python, *ready_made]
    command += [f"--extra={extra}" for extra in wanted]
    command += [f"--resolution={RESOLUTIONS[options.libraries]}", "--output-file", folder / "pins.txt"]
    call(*command, ROOT / "pyproject.toml", tools)
    call("uv", "pip", "install", "--quiet", "--python", python, "--requirements", folder / "pins.txt", wheel)
    call("uv", "pip", "check", "--quiet", "--python", python)
    return python


def names(groups) -> list[str]:
    """The names of the libraries in lists of requirements."""
    found = {re.match(r"[\w.-]+", need)[0] for group in groups for need in group}
    return sorted(found - {"jaxtl"})


def versions(python: Path) -> str:
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    answer = subprocess.check_output([python, "-c", code, *TOLD], text=True)
    return ", ".join(f"{name} {number}" for name, number in zip(TOLD, answer.split(), strict=True))


def run_small(python: Path, folder: Path) -> None:
    """The command that was installed makes a run and reads it, where no checkout is."""
    place = folder / "elsewhere"
    place.mkdir()
    command = python.with_name("jaxtl")
    call(command, "--version", cwd=place)
    call(command, *SMALL_RUN, cwd=place, stdout=subprocess.DEVNULL)
    missing = [name for name in OF_THE_RUN if not (place / "small" / name).is_file()]
    assert not missing, f"the run has no {missing}"
    for words in READ_IT:
        call(command, *words.split(), cwd=place, stdout=subprocess.DEVNULL)
    call(python, "-m", "weights_convert", "--help", cwd=place, stdout=subprocess.DEVNULL)


def run_tests(python: Path, tree: Path, options: argparse.Namespace) -> None:
    modules = [f"tests/test_{name}.py" for name in options.tests]
    # What old libraries say of each other is not for jaxtl to mend; of new ones it is an early word.
    old = ["-W", "default::DeprecationWarning"] if options.libraries == "lowest" else []
    call(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *old, *modules, cwd=tree)


def call(*words, **settings) -> None:
    """Run a program, without what the checkout or another environment would lend it."""
    lent = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")
    environment = {name: value for name, value in os.environ.items() if name not in lent}
    subprocess.run(words, check=True, env={**environment, "JAX_PLATFORMS": "cpu"}, **settings)


if __name__ == "__main__":
    sys.exit(main())
