"""The ports of `make up`, who holds them, and the record of the processes that `make up` started in a home.

Each service is the leader of a session of its own, so all its processes are found by their session id, orphans too.
The record, agentark-home/services/state.json:

    {"boot": "1c9e2f66-...", "sessions": {"prefect": {"id": 4711, "created": 1730000000.25}, "ray": {...}}}
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from agentark_core.errors import ConfigError

DEFAULTS = {"prefect": 4200, "mlflow": 5000, "ray": 6379, "ray-dashboard": 8265, "ray-client": 10001}


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that listens on a port. session is None if it belongs to another user."""

    description: str
    session: int | None


def variable(service: str) -> str:
    """The environment variable that moves a service to another port."""
    return f"AGENTARK_{service.upper().replace('-', '_')}_PORT"


def ports() -> dict[str, int]:
    """Port of each service: the default, or what its variable says. ConfigError if that is no port."""
    chosen = {}
    for service, default in DEFAULTS.items():
        text = os.environ.get(variable(service), str(default))
        if not text.isdecimal() or not 1024 <= int(text) <= 65535:
            raise ConfigError(f"{variable(service)}={text}: use a port number from 1024 to 65535")
        chosen[service] = int(text)
    return chosen


def holders() -> dict[int, Holder]:
    """Every TCP port of this machine that something listens on."""
    import psutil

    found = {}
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status != psutil.CONN_LISTEN:
            continue
        holder = Holder(description="a process of another user", session=None)
        if connection.pid:
            try:
                name = psutil.Process(connection.pid).name()
                holder = Holder(description=f"process {connection.pid} ({name})", session=os.getsid(connection.pid))
            except (psutil.Error, ProcessLookupError):
                continue
        found[connection.laddr.port] = holder
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A service's session: the pid of its leader, and when that started (seconds since 1970)."""

    id: int
    created: float


def read_sessions(home: Path) -> dict[str, Session]:
    """Session of each service that was started in home since the machine booted; some may have ended."""
    try:
        state = json.loads(_state_file(home).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    if state["boot"] != _boot_id():
        return {}
    return {name: Session(**session) for name, session in state["sessions"].items()}


def write_sessions(home: Path, *, sessions: dict[str, Session]) -> None:
    """Record the sessions, at once or not at all."""
    path = _state_file(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    plain = {name: asdict(session) for name, session in sessions.items()}
    draft.write_text(json.dumps({"boot": _boot_id(), "sessions": plain}), encoding="utf-8")
    draft.replace(path)


def _state_file(home: Path) -> Path:
    return home / "services" / "state.json"


def _boot_id() -> str:
    # Session ids are unique only until the next boot.
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
