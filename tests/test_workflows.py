"""The workflows for forks run what is there, with nothing that can be exchanged and no right to write."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def text(request):
    return request.param.read_text(encoding="utf-8")


def test_there_are_workflows():
    assert {path.stem for path in WORKFLOWS} == {"tests", "weekly", "gpu"}


def test_actions_are_pinned_and_get_no_rights(text):
    """By a hash, since a tag can be moved to another program."""
    actions = re.findall(r"uses: *(\S+)(.*)", text)
    assert actions
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) for action, _ in actions)
    assert all(re.fullmatch(r" +# v\d+(\.\d+)*", remark) for _, remark in actions)
    assert re.findall(r"^permissions:\n((?:  .*\n)+)", text, re.MULTILINE) == ["  contents: read\n"]
    assert text.count("permissions:") == 1
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")


def test_strangers_start_nothing_with_rights_or_on_ones_own_machine(text):
    assert "pull_request_target" not in text
    assert "secrets." not in text
    assert "self-hosted" not in text or "pull_request" not in text.partition("jobs:")[0]


def test_no_value_is_put_into_a_script(text):
    """Values reach a shell as variables of the environment; as text they could end a command."""
    scripts = re.findall(r"- run: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", text)
    assert scripts
    assert not [script for script in map("".join, scripts) if "${{" in script]


def test_files_and_extras_that_are_named_are_there(text):
    paths = re.findall(r"(?:python|pytest|bash)(?: -m \w+)? ((?:tests|\.ci)/[\w./]+)", text)
    assert all((ROOT / path).exists() for path in paths)
    extras = re.findall(r'"\.\[(\w+)\]"', text)
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    options = re.search(r"options: \[(.+)\]", text)
    assert not options or set(options[1].split(", ")) <= set(PROJECT["optional-dependencies"])


def test_every_python_that_is_allowed_and_told_is_tried():
    tried = {version for path in WORKFLOWS for version in re.findall(r'"(3\.\d+)"', path.read_text("utf-8"))}
    told = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line}
    assert told <= tried
    assert PROJECT["requires-python"].removeprefix(">=") == min(tried, key=lambda version: int(version[2:]))
