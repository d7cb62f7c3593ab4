"""`docs/cli.md` and the code say the same."""

import re

import typer

from sync_defs.cli.app import app
from sync_defs.cli.failures import ExitCode
from tests.cli.conftest import ROOT

TEXT = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def commands(group, prefix=()):
    """Yield every command with its words, groups included."""
    for name, command in group.commands.items():
        yield [*prefix, name], command
        if hasattr(command, "commands"):
            yield from commands(command, [*prefix, name])


def sections():
    """Return the text of each top-level command's section."""
    parts = re.split(r"^## (.+)$", TEXT, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_command_and_option_is_in_its_section():
    missing = []
    for words, command in commands(typer.main.get_command(app)):
        section = sections().get(words[0], "")
        if f"sync-defs {' '.join(words)}" not in section:
            missing.append(" ".join(words))
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        shown = {"--browser": "--no-browser"}
        wanted = [shown.get(option, option) for option in options if option != "--help"]
        missing += [f"{' '.join(words)} {option}" for option in wanted if not re.search(rf"{option}\b", section)]
    assert missing == []


def test_every_section_of_a_command_is_a_command():
    known = {words[0] for words, _ in commands(typer.main.get_command(app))}
    assert set(sections()) - known == {"Exit codes", "Global options"}


def test_every_exit_code_is_in_the_table():
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)]
    assert listed == [code.value for code in ExitCode]
