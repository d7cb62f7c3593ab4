"""Virtual environments, one for each tool."""

import subprocess
import sys
from pathlib import Path

from benchmarks.peers.catalogue import Peer

_INSTALL_TIMEOUT_S = 900


class InstallError(Exception):
    """A tool cannot be had here; says why."""


def python_of(peer: Peer, folder: Path) -> str:
    """Return the Python of a tool's environment, which is made where it is not there or was not finished.

    Raises:
        InstallError: a requirement cannot be installed.
    """
    if not peer.requirements:
        return sys.executable
    home = folder / peer.name
    done = home / "requirements.txt"
    wanted = "\n".join(peer.requirements)
    python = home / "bin" / "python"
    if not done.exists() or done.read_text(encoding="utf-8") != wanted:
        _run([sys.executable, "-m", "venv", "--clear", home])
        _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements])
        done.write_text(wanted, encoding="utf-8")
    return str(python)


def _run(command: list[str | Path]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise InstallError(f"cannot be installed within {_INSTALL_TIMEOUT_S} s") from None
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise InstallError(f"cannot be installed: {(errors or done.stderr.splitlines() or ['?'])[-1][:200]}")
