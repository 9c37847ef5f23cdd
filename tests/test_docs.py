"""README and docs/: every command exists and runs, every link leads somewhere, every file is described.

Commands run in small forms: `SMALL` has the options that are added to each verb, `SMALLER` what is
replaced in a block. What cannot run here is listed in `NOT_RUN` with its reason; any other command is run, so
that one that this file does not know fails. Whole runs, studies and fine-tuning are marked slow.
"""

import contextlib
import importlib.util
import itertools
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pytest

from jaxtl.cli.main import cli, main

ROOT = Path(__file__).parent.parent
PAGES = [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
DOCS = ["README.md", "CONTRIBUTING.md", "SECURITY.md", *PAGES]
# What others look after, but users read: its commands and links are checked, and not run.
CHECKED = [*DOCS, "benchmarks/README.md"]
TWO_COMMANDS = [
    "python3 -m venv .venv && . .venv/bin/activate && pip install . && jaxtl run",
    'python3 -m venv .venv && . .venv/bin/activate && pip install ".[test]" && python -m pytest',
]
_DIGITS = "idx:kmnist"  # the fixture `prepared` puts some there
_FEW_IMAGES = ["--image-size", "32"]
_SHORT = ["--samples", "60", "--train-samples", "70", "--epochs", "1"]
SMALL = {
    "run": [*_SHORT, "--perplexity", "8", *_FEW_IMAGES],
    "sweep": [*_SHORT, "--dataset", _DIGITS, *_FEW_IMAGES],
    "extract": ["--samples", "200", *_FEW_IMAGES],
    "finetune": ["--train-samples", "70", "--epochs", "1", "--dataset", _DIGITS, *_FEW_IMAGES],
    "scale": ["--sizes", "40,60,80", "--perplexity", "8", *_FEW_IMAGES],
}
SMALLER = {"take(2000)": "take(200)", "@5000": "@50"}
NOT_RUN = {
    "python3 -m venv": "the tests run in an environment already",
    ". .venv/bin/activate": "likewise",
    "pip install": "needs a network; its extras are looked up",
    "python -m pytest": "this is it",
    "timeout -s INT 300 python -m pytest": "likewise",
    "ruff": "CI's",
    "python -m sphinx": "tests/test_examples.py builds the site",
    "mypy": "tests/test_types.py runs it",
    "python tests/installed.py": "installs from a network; tests/test_package.py looks at the same wheel",
    "python -m benchmarks": "tests/test_benchmarks.py runs the suites",
    "python -m jaxtl.scaling.reference": "writes into the package; tests/test_forecast.py makes the table",
    "jaxtl extract --dataset infinite:1000000 --split train --out F.shards --coordinator": "waits for its "
    "other processes; tests/test_together.py starts them",
    "jaxtl neighbors F.shards --n-neighbors 90 --out N.npz --coordinator": "likewise",
    "jaxtl finetune --dataset mnist --batch-size 256 --out tuned.safetensors --coordinator": "likewise",
    "XLA_FLAGS=": "a process has its devices once; tests/test_devices.py runs on several",
    "jaxtl run --model resnet18": "needs weights; tests/test_families.py runs a narrow one",
    "dask": "starts what does not end; tests/test_dask.py has a cluster",
    "jaxtl run --seeds 8 --dask tcp:": "needs several machines; tests/test_dask.py has a cluster",
    "jaxtl sweep --seeds 3 --dask tcp:": "likewise",
    "jaxtl scale --dask tcp:": "likewise",
    "jaxtl run --dataset tfds:": "needs a network; tests/test_data_tfds.py reads a prepared set",
}
TAKES_LONG = {
    *("run", "compare", "sweep", "scale", "layers", "doctor", "weights_convert", "keras", "onnx", "finetune")
}
# What draws all figures of a run, or computes all its scores.
OF_WHOLE_RUNS = {"plot", "score"}
TRAINS = re.compile(r"(finetune|jaxtl\.run|compare|sweep)\(")
DEVELOPERS_TOOLS = {"mypy", "ruff"}


class Block(NamedTuple):
    """A fenced block: where it stands, its language and its lines."""

    place: str
    language: str
    text: str


def blocks_of(name):
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", text_of(name), re.MULTILINE | re.DOTALL)
    return [Block(f"{name}:{line_of(fence)}", fence[1], fence[2]) for fence in fences]


def line_of(match):
    return match.string.count("\n", 0, match.start()) + 1


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def prose_of(name):
    return re.sub(r"^```.*?^```$", "", text_of(name), flags=re.MULTILINE | re.DOTALL)


def commands_of(text):
    """Each command of some lines of shell as its words; `A && B` is two. Where output goes is left out."""
    for line in text.replace("\\\n", " ").splitlines():
        words = itertools.takewhile(lambda word: word not in (">", "|"), shlex.split(line, comments=True))
        groups = itertools.groupby(words, lambda word: word == "&&")
        yield from (list(words) for is_and, words in groups if not is_and)


BLOCKS = {block.place: block for name in CHECKED for block in blocks_of(name)}
SHELL = [block for block in BLOCKS.values() if block.language == "sh"]
PYTHON = [block for block in BLOCKS.values() if block.language == "python"]


def to_run(block):
    """The commands of a block that are run here."""
    commands = [words for words in commands_of(smaller(block.text)) if not is_left_out(words)]
    return [] if block.place.startswith("benchmarks/") else commands


def smaller(text):
    for large, small in SMALLER.items():
        text = text.replace(large, small)
    return text


def is_left_out(words):
    return any(" ".join(words).startswith(beginning) for beginning in NOT_RUN)


def takes_long(words):
    whole_run = not OF_WHOLE_RUNS.isdisjoint(words) and any(word.startswith("runs/") for word in words)
    return whole_run or (not TAKES_LONG.isdisjoint(words) and "--resume" not in words)


def marked(block, slow):
    return pytest.param(block, id=block.place, marks=[pytest.mark.slow] if slow else [])


# What is written.


def test_readme_is_short():
    assert len(text_of("README.md").splitlines()) <= 150


def test_the_two_commands_stand_in_the_readme():
    assert [block.text.strip() for block in blocks_of("README.md")][:2] == TWO_COMMANDS


def test_every_block_is_of_a_known_language():
    assert {block.language for block in BLOCKS.values()} <= {"sh", "python"}
    assert len(SHELL) > 10
    assert len(PYTHON) > 1


@pytest.mark.parametrize("name", [*CHECKED, "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    links = re.findall(r'\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"', prose_of(name))
    for link in (link or source for link, source in links):
        if not link.startswith("http"):
            check_link((ROOT / name).parent, name, link)


def check_link(folder, name, link):
    path, _, anchor = link.partition("#")
    target = (folder / path) if path else ROOT / name
    assert target.exists(), f"{name}: {link}"
    assert not anchor or anchor in anchors_of(target), f"{name}: {link}"


def anchors_of(path):
    """Of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", DOCS)
def test_files_that_are_named_exist(name):
    paths = re.findall(r"`((?:jaxtl|weights_convert|benchmarks|tests|docs)/[\w./-]*)`", prose_of(name))
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing


def test_the_map_of_the_code_has_every_room():
    folder = ROOT / "jaxtl"
    rooms = {f"{path.name}/" for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"}
    rooms |= {path.name for path in folder.glob("[!_]*.py")}
    section = text_of("CONTRIBUTING.md").partition("The rooms of `jaxtl/`")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)) == rooms


# Commands exist.


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_commands_of_a_block_are_understood(block):
    for words in commands_of(block.text):
        check_command(words)


def check_command(words):
    """Fails with click's own words where a command or an option is not there or a value is not allowed."""
    command, arguments = click_command(words)
    if command is not None:
        with command.make_context(words[0], arguments):
            return
    text = " ".join(words)
    assert is_left_out(words), f"a command that this test does not know: {text}"
    if text.startswith("pip install"):
        check_install(words[2:])
    elif text.startswith("python -m pytest"):
        check_marker(words[3:])
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]), text


def click_command(words):
    """The click command that some words call, or None, and the words that are left for it."""
    if words[0] == "jaxtl":
        command, rest = cli, words[1:]
    elif words[:2] == ["python", "-m"] and words[2] in ("jaxtl", "benchmarks", "weights_convert"):
        command, rest = group_of(words[2]), words[3:]
    else:
        return None, []
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        verb, *rest = rest
        assert verb in command.commands, f"no such command: {' '.join(words)}"
        command = command.commands[verb]
    return command, rest


def group_of(package):
    if package == "jaxtl":
        return cli
    module = importlib.import_module(f"{package}.__main__")
    return module.cli if package == "benchmarks" else module.main


def check_install(words):
    extras = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
    for word in words:
        wanted = re.fullmatch(r"\.(?:\[([\w,]+)\])?", word)
        assert wanted or word == "-e" or word in DEVELOPERS_TOOLS, word
        assert not wanted or set((wanted[1] or "test").split(",")) <= set(extras), word


def check_marker(words):
    markers = tomllib.loads(text_of("pyproject.toml"))["tool"]["pytest"]["ini_options"]["markers"]
    known = [[], ["--cov"], *(["-m", marker.partition(":")[0]] for marker in markers)]
    assert [word for word in words if word != "-n0"] in known


@pytest.mark.parametrize("name", CHECKED)
def test_commands_in_the_text_are_there(name):
    """Their verbs and options: values may be placeholders."""
    for text in re.findall(r"`((?:jaxtl|python -m|pip install) [^`]+)`", prose_of(name)):
        words = shlex.split(text)
        command, rest = click_command(words)
        if command is None:
            check_command(words)
            continue
        options = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert options <= options_of(command), text


@pytest.mark.parametrize("name", CHECKED)
def test_options_in_the_text_are_there(name):
    groups = [cli, group_of("benchmarks"), group_of("weights_convert")]
    known = set().union(*(options_of(command) for group in groups for command in group.commands.values()))
    options = re.findall(r"`(--[a-z-]+)[^`]*`", prose_of(name))
    assert set(options) <= known


def options_of(command):
    names = (option for param in command.params for option in (*param.opts, *param.secondary_opts))
    return {"--help", "--version", *names}


# Commands run.


@pytest.fixture(scope="module")
def prepared(few_digits, once, without_figures):
    """A folder with what the commands read: two finished runs, digits in IDX files, images in folders."""

    def make(folder):
        with without_figures():
            prepare(folder, few_digits)

    return once("docs", make)


def prepare(folder, digits):
    folder.mkdir()
    shutil.copytree(digits.removeprefix("idx:"), folder / "kmnist")
    draw_images(folder / "my-images")
    list_photos(folder, shutil.copytree(folder / "my-images" / "train", folder / "photos"))
    execute(["jaxtl", "run", "--dataset", _DIGITS, "--trainable", "none"], folder)
    (run,) = (folder / "runs").iterdir()
    shutil.copytree(run, folder / "runs" / "mnist-all")
    run.rename(folder / "runs" / "mnist-2000")
    for path in (folder / "runs" / "mnist-2000" / "features").iterdir():
        shutil.copy(path, folder)


def draw_images(folder):
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, name, number in itertools.product(("train", "test"), ("dark", "light"), range(40)):
        pixels = rng.integers(0, 128, (32, 32, 3)) + 127 * (name == "light")
        path = folder / split / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def list_photos(folder, photos):
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(photos.rglob("*.png"))]
    (folder / "photos.csv").write_text("\n".join(["path,species", *lines, ""]))


def execute(words, folder):
    """Run a command in its small form in a folder; it ends well and makes the file that --out names."""
    command, arguments = click_command(words)
    assert command is not None, f"this test cannot run: {' '.join(words)}"
    arguments = [*arguments, *([] if "--forecast" in words else SMALL.get(command.name, []))]
    if command.name == "reduce" and "tsne" in words:
        arguments += ["--set", "perplexity=8"]
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["jaxtl", command.name, *arguments])
        if words[0] == "jaxtl":
            call(main)
        else:
            call(lambda: command.main(arguments))
        assert "--out" not in arguments or Path(arguments[arguments.index("--out") + 1]).exists()


def call(function):
    """Call what may end as a command does, with the code for success."""
    code = 0
    try:
        function()
    except SystemExit as end:
        code = end.code or 0
    assert code == 0


@pytest.fixture
def place(prepared, tmp_path):
    """A copy of the prepared folder, to work in."""
    return Path(shutil.copytree(prepared, tmp_path / "place"))


# NumPy's, of what Keras hands it when it saves.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't:DeprecationWarning")
@pytest.mark.parametrize(
    "block", [marked(block, any(map(takes_long, to_run(block)))) for block in SHELL if to_run(block)]
)
def test_a_block_of_commands_runs(block, place, request):
    if "--recall" in block.text:
        pytest.importorskip("faiss")
    if "checkpoint.h5" in block.text:
        shutil.copy(request.getfixturevalue("checkpoint"), place)
    if "--out study --forecast" in block.text and "runs/mnist" not in block.text:
        execute(["jaxtl", "scale", "--out", "study"], place)
    for words in to_run(block):
        execute(words, place)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """MobileNetV2 with random weights, as Keras saves it."""
    import keras

    path = tmp_path_factory.mktemp("keras") / "checkpoint.h5"
    keras.applications.MobileNetV2(input_shape=(32, 32, 3), include_top=False, weights=None).save(path)
    return path


@pytest.mark.parametrize("block", [marked(block, TRAINS.search(block.text)) for block in PYTHON])
def test_a_block_of_python_runs(block, tmp_path):
    with contextlib.chdir(tmp_path):
        exec(compile(smaller(block.text), block.place, "exec"), {})


def test_every_file_of_a_run_is_described(prepared):
    folder = prepared / "runs" / "mnist-2000"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    cells = re.findall(r"^\| (`[^|]+) \|", text_of("docs/run-folder.md"), re.MULTILINE)
    patterns = itertools.chain.from_iterable(re.findall(r"`([^`]+)`", cell) for cell in cells)
    assert sorted(itertools.chain.from_iterable(map(expanded, patterns))) == sorted(files)


def expanded(pattern):
    """The names that a pattern with braces stands for, as a shell expands it."""
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(names) for names in itertools.product(*parts)]
