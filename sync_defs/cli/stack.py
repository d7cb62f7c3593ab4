"""What `up` starts, and with which settings: worked out before anything runs."""

import base64
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sync_defs.cli.deployment import Deployment
from sync_defs.cli.ports import require_free
from sync_defs.cli.serve import environment_with_file
from sync_defs.errors import ConfigurationError
from sync_defs.job import Job

HOST = "127.0.0.1"
_SECRET = "SYNC_WEBHOOK_SECRET"  # noqa: S105 - a variable's name
_KINDS = {"inventory": "erp_inventory", "customers": "erp_customers"}
"""What the demo ERP announces, and the job that each is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process of the stack."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(repr=False)
    url: str
    health: str
    """Path that answers 200 once it is up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the parts listen, on the loopback interface."""

    webserver: int
    receiver: int
    erp: int


def project_folder() -> Path:
    """Return the current folder, if it is a project's.

    Raises:
        ConfigurationError: it lacks a file that Dagster needs.
    """
    folder = Path.cwd()
    absent = [name for name in ("workspace.yaml", "dagster.yaml") if not (folder / name).is_file()]
    if absent:
        raise ConfigurationError(
            f"there is no {' and no '.join(absent)} in {folder}; run `sync-defs up` in the project's folder",
            code="not_a_project",
        )
    return folder


def prepare_state(state_dir: Path) -> Path:
    """Create the folder for state and logs, kept out of version control; return its absolute path."""
    state = state_dir.absolute()
    (state / "logs").mkdir(parents=True, exist_ok=True)
    ignore = state / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    return state


def webhook_secret(state: Path, environment: Mapping[str, str]) -> str:
    """Return the configured secrets, or else one that is made once and kept in `<state>/webhook_secret`."""
    configured = environment.get(_SECRET, "").strip()
    if configured:
        return configured
    path = state / "webhook_secret"
    if not path.exists():
        made = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(made + "\n", encoding="ascii")
        fresh.replace(path)
    return path.read_text(encoding="ascii").strip()


def needs_demo_erp(deployment: Deployment) -> bool:
    """Tell whether a job reads from an ERP and none is configured."""
    is_read = any("erp" in job.resource_names for job in deployment.jobs.values())
    return is_read and deployment.settings.erp_url is None


def require_ports(ports: Ports, *, has_erp: bool) -> None:
    """Make sure that every part can have its port, before anything is started.

    Raises:
        ConfigurationError: one is in use, or two are the same.
    """
    wanted = {"--port": ports.webserver, "--receiver-port": ports.receiver}
    if has_erp:
        wanted["--erp-port"] = ports.erp
    if len(set(wanted.values())) < len(wanted):
        raise ConfigurationError(f"{', '.join(wanted)} must be different ports", code="port_in_use")
    for option, port in wanted.items():
        require_free(HOST, port, option=option)


def parts_of(deployment: Deployment, folder: Path, state: Path, ports: Ports, *, tick_s: float) -> list[Part]:
    """Return the processes to start, in order."""
    secret = webhook_secret(state, environment_with_file())
    environment = dict(os.environ) | {
        _SECRET: secret,
        "DAGSTER_HOME": str(folder),
        "PYTHONUNBUFFERED": "1",
        # Not `SYNC_*` settings of ours: Dagster asks nobody, and shows no progress bars in a log.
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "NO_COLOR": "1",
    }
    parts: list[Part] = []
    if needs_demo_erp(deployment):
        parts.append(_demo_erp(deployment, state, ports, environment, tick_s=tick_s))
        environment["SYNC_ERP_URL"] = parts[0].url
    if any(job.webhook is not None for job in deployment.jobs.values()):
        parts.append(_receiver(ports, environment))
    parts.append(_dagster(ports, environment))
    return parts


def _demo_erp(deployment: Deployment, state: Path, ports: Ports, environment: dict[str, str], *, tick_s: float) -> Part:
    command = [sys.executable, "-m", "sync_defs.testing.demo_erp", "--port", str(ports.erp)]
    command += ["--state", str(state / "demo_erp.sqlite")]
    for kind, name in _KINDS.items():
        if _takes_webhooks(deployment.jobs.get(name)):
            command += [f"--webhook-{kind}", f"http://{HOST}:{ports.receiver}/webhooks/{name}"]
    if tick_s:
        command += ["--tick-s", str(tick_s)]
    # Of several live secrets, the first one signs.
    own = environment | {_SECRET: environment[_SECRET].split()[0]}
    token = deployment.settings.erp_token
    if token is not None:
        own["SYNC_ERP_TOKEN"] = token.get_secret_value()
    url = f"http://{HOST}:{ports.erp}"
    return Part(name="demo-erp", command=command, environment=own, url=url, health="/healthz")


def _receiver(ports: Ports, environment: dict[str, str]) -> Part:
    command = [sys.executable, "-m", "sync_defs.cli", "serve", "--host", HOST, "--port", str(ports.receiver)]
    url = f"http://{HOST}:{ports.receiver}"
    return Part(name="receiver", command=command, environment=dict(environment), url=url, health="/readyz")


def _dagster(ports: Ports, environment: dict[str, str]) -> Part:
    command = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml"]
    command += ["-h", HOST, "-p", str(ports.webserver)]
    url = f"http://{HOST}:{ports.webserver}"
    own = dict(environment)
    return Part(name="dagster", command=command, environment=own, url=url, health="/server_info")


def _takes_webhooks(job: Job | None) -> bool:
    return job is not None and job.webhook is not None
