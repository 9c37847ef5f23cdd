"""What is published: all of the two packages and nothing else, which works where no checkout is."""

import email
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import jaxtl

ROOT = Path(__file__).parent.parent
PACKAGES = ("jaxtl", "weights_convert")
PUBLISHED = (*PACKAGES, "benchmarks", "tests", "docs", "examples", ".ci", ".github")
SMALL_RUN = ["--samples", "60", "--train-samples", "70", "--epochs", "1", "--perplexity", "8"]
# The data that modules read, as they read it, and the command that writes a page of a run.
USE = """
import sys
import jaxtl
from jaxtl.cli.main import main
from jaxtl.costs.table import reference
jaxtl.load_model()
images = sum(len(jaxtl.load("mnist", split)) for split in ("train", "test"))
print(jaxtl.__file__, images, len(reference().maps))
sys.argv = ["jaxtl", "report", sys.argv[1], "--out", "page.html"]
main()
"""


def files_of(*folders):
    """The files of the tree below some folders, by name."""
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    made = ("__pycache__", "quick")
    return {path.relative_to(ROOT).as_posix() for path in paths if not set(made) & set(path.parts)}


def build(target, folder):
    """What hatchling, the backend of pyproject.toml, makes of the tree; no network is asked."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def wheel(once):
    (path,) = once("wheel", lambda folder: build("wheel", folder)).glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, once):
    """The wheel as an installer lays it out."""
    return once("installed", lambda folder: zipfile.ZipFile(wheel).extractall(folder))


@pytest.fixture(scope="module")
def metadata(installed):
    (path,) = installed.glob("*.dist-info/METADATA")
    return email.message_from_string(path.read_text(encoding="utf-8"))


def test_the_wheel_holds_the_packages_and_nothing_else(installed):
    held = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    assert {name for name in held if ".dist-info/" not in name} == files_of(*PACKAGES)


def test_assets_come_through_to_the_byte(installed):
    assets = {name for name in files_of(*PACKAGES) if not name.endswith(".py")}
    kinds = {Path(name).suffix or Path(name).name for name in assets}
    assert {".safetensors", ".gz", ".json", ".html", ".css", ".js", ".pyi", ".typed", ".txt"} <= kinds
    assert not [name for name in assets if (installed / name).read_bytes() != (ROOT / name).read_bytes()]


def test_the_source_archive_holds_the_tree_and_nothing_else(tmp_path):
    build("sdist", tmp_path)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    files = {path.name for path in ROOT.iterdir() if path.suffix in (".md", ".toml")}
    assert held == files_of(*PUBLISHED) | files | {"LICENSE", ".gitignore", "PKG-INFO"}


def test_what_is_told_of_the_package(metadata):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata["Name"] == "jaxtl"
    assert metadata["Version"] == jaxtl.__version__
    assert metadata["Requires-Python"] == project["requires-python"]
    assert set(metadata.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    assert metadata.get_all("License-File") == project["license-files"]


def test_licences_of_all_that_is_brought_along_are_told(installed, metadata):
    """MNIST's and those of the page's libraries too."""
    assert set(metadata["License-Expression"].split(" AND ")) == {"Apache-2.0", "MIT", "ISC", "CC-BY-SA-3.0"}
    (folder,) = installed.glob("*.dist-info/licenses")
    texts = [(folder / name).read_text(encoding="utf-8") for name in metadata.get_all("License-File")]
    for words in ("Apache License", "MIT License", "ISC", "CC BY-SA 3.0"):
        assert any(words in text for text in texts), words


def test_data_and_page_are_found_where_no_checkout_is(installed, few_run, tmp_path):
    command = [sys.executable, "-c", USE, few_run]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    file, images, costs = ended.stdout.split()[:3]
    assert Path(file).parent.parent == installed
    assert images == "70000"
    assert int(costs) > 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "createScatterplot" in page
    assert "modules.start" in page


@pytest.mark.slow
def test_the_installed_command_does_the_experiment(wheel, tmp_path):
    """Installed by pip, without a network, into a folder of its own, and called from another."""
    target, place = tmp_path / "target", tmp_path / "place"
    place.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", target, wheel]
    subprocess.run(pip, check=True, capture_output=True)
    command = [target / "bin" / "jaxtl", "run", *SMALL_RUN, "--image-size", "32", "--out", "run"]
    environment = {**os.environ, "PYTHONPATH": str(target)}
    ended = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert (place / "run" / "report.html").stat().st_size > 100_000
