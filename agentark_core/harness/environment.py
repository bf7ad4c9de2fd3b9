"""The environment of lm-evaluation-harness: .venv-lm-eval, made from infra/locks/lm-eval.txt by `make setup` or
on first use.

It is an overlay. What the lock names is installed there and comes first; every other package is found in the
environment that this process runs in. So the harness computes with the torch and transformers that trained the student,
on CPU and GPU alike, without a second copy of some gigabytes; and nothing of it is ever installed into ours.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from agentark_core.errors import ConfigError, EngineError

ROOT = Path(__file__).resolve().parents[2]
FOLDER, LOCK, STAMP = ".venv-lm-eval", "infra/locks/lm-eval.txt", "agentark.stamp"


def ensure(root: Path = ROOT) -> Path:
    """The environment's Python; the environment is made under root unless the lock's one is there already.

    Raises ConfigError if root is no checkout of this project, EngineError with pip's words if it cannot install.
    """
    folder, lock = root / FOLDER, root / LOCK
    if not lock.is_file():
        raise ConfigError(f"{lock}: no such lock; lm-eval needs a checkout of AgentArk set up with `make setup`")
    ours = str(Path(sysconfig.get_path("purelib")).resolve())  # one name, whether .venv is a link or not
    wanted = hashlib.sha256("\0".join([lock.read_text(encoding="utf-8"), ours, sys.version]).encode()).hexdigest()
    python, stamp = folder / "bin" / "python", folder / STAMP
    with (root / f"{FOLDER}.lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
            print(f"agentark: making {folder} from {LOCK} (once; about 105 MB)", file=sys.stderr)
            venv.EnvBuilder(clear=True, symlinks=True, with_pip=False).create(folder)
            packages = Path(sysconfig.get_path("purelib", scheme="venv", vars={"base": str(folder)}))
            (packages / "agentark.pth").write_text(f"import site; site.addsitedir({ours!r})\n", encoding="utf-8")
            _install(python, lock)
            stamp.write_text(wanted, encoding="utf-8")
    return python


def _install(python: Path, lock: Path) -> None:
    # --ignore-installed: the packages below are on the path too, and pip is to leave them alone whatever their version.
    command = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--no-input"]
    command += ["install", "-qq", "--no-deps", "--no-build-isolation", "--ignore-installed", "-r", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or f"pip ended with code {done.returncode}").splitlines()[-1]
        raise EngineError(f"{lock}: cannot be installed: {said[:300]}; check the network and the package index")


if __name__ == "__main__":  # infra/install.sh
    try:
        ensure()
    except EngineError as error:
        raise SystemExit(f"agentark: {error}") from None
