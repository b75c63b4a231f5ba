"""What README.md and docs/ tell people to type."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from typer.main import get_command

from tests.commands import DOCUMENTS, ROOT, Shown, commands
from vlfilter.cli.app import app

OURS = [shown for document in DOCUMENTS for shown in commands(document) if shown.words[0] == "vlfilter"]


def find(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words call, and the words behind it."""
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        assert words, "a command's name is missing"
        assert words[0] in command.commands, f"no command is called {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def test_there_are_commands_to_look_at() -> None:
    assert len(OURS) > 20
    assert {shown.document for shown in OURS} > {"README.md", "scorers.md", "data-engine.md"}


@pytest.mark.parametrize("shown", OURS, ids=lambda shown: f"{shown.document}: {shlex.join(shown.words)[:70]}")
def test_every_command_and_option_that_is_shown_exists(shown: Shown) -> None:
    for alternative in shown.words[1].split("|"):  # `a|b` stands for two commands
        command, rest = find([alternative, *shown.words[2:]])
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        given = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert given <= known | {"--help"}, f"{command.name} has no {', '.join(sorted(given - known))}"


@pytest.mark.parametrize(
    "shown", [one for one in OURS if one.document == "README.md"], ids=lambda shown: shlex.join(shown.words)[:70]
)
def test_the_readme_s_commands_are_whole(shown: Shown, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # nothing that is required is missing, and every value is of its option's kind; files that are named may exist
    monkeypatch.chdir(tmp_path)
    command, rest = find(list(shown.words[1:]))
    for word in rest:
        if "." in word and "/" not in word and not word.startswith("-"):
            (tmp_path / word).touch()
    assert command.make_context(command.name, rest).args == []


def test_make_targets_that_are_shown_exist() -> None:
    targets = {line.partition(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if ":" in line}
    shown = {one.words[1] for document in DOCUMENTS for one in commands(document) if one.words[0] == "make"}
    assert shown >= {"demo", "test", "deploy"}
    assert shown <= targets
