"""Model directories: where a model comes from, what it may contain, and its content hash.

A model directory holds config.json, *.safetensors, tokenizer files and a chat template: data only. Code, pickles and
links that lead out of it are refused (F38), whatever their source.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from agentark_core.config import EngineConfig, ModelConfig
from agentark_core.errors import ModelError

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
CODE = {".py", ".pyc", ".so", ".pyd", ".dll", ".dylib"}
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
HUB_PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*.model", "tokenizer*", "*.txt"]
HUB_REFUSED = ["*.py", "*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt"]

_hashes: dict[tuple[str, int, int], str] = {}
"""sha256 by (real path, size, mtime_ns): a weight file is hashed once per process."""


def resolve(config: ModelConfig) -> Path:
    """The checked local directory of a model: shipped (`arkling:...`), local, or downloaded from the hub.

    Raises ModelError with the remedy if it cannot be found or may not be used.
    """
    if config.path.startswith("arkling:"):
        name = config.path.removeprefix("arkling:")
        if name not in ("teacher", "student"):
            raise ModelError(f"{config.path}: the shipped models are arkling:teacher and arkling:student")
        from agentark_core.arkling import model_path

        path = model_path(name)  # type: ignore[arg-type]
    elif Path(config.path).expanduser().is_dir():
        path = Path(config.path).expanduser().resolve()
    elif config.path.startswith(("/", ".", "~")):
        raise ModelError(f"{config.path}: no such model directory; give a directory, a hub id or arkling:teacher")
    else:
        path = _download(config)
    check_model_dir(path)
    return path


def source(model: ModelConfig, engine: EngineConfig) -> tuple[Path | None, str]:
    """(directory, revision) of a model as an engine uses it; the revision is part of the work key.

    A served model that is no local directory has none. Its revision follows from its names, from model.revision, and
    from how it is asked, but not from the address: the same weights may move (F20). Raises ModelError.
    """
    local = model.path.startswith(("arkling:", "/", ".", "~")) or Path(model.path).is_dir()
    path = resolve(model) if engine.kind == "vllm" or (engine.kind == "openai" and local) else None
    if engine.endpoint is None and path is not None:
        return path, revision(path)
    if engine.endpoint is None:
        identity = ["replay", engine.replay]
    else:
        served = engine.endpoint
        weights = model.path if path is None else revision(path)
        identity = ["served", weights, model.revision, served.model, served.api, str(served.max_model_len)]
    return path, hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]


def _download(config: ModelConfig) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        local = snapshot_download(
            config.path,
            revision=config.revision or None,
            allow_patterns=HUB_PATTERNS,
            ignore_patterns=HUB_REFUSED,
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{config.path}: neither a local directory nor available from the hub ({type(error).__name__}); "
            "download it first and give its directory, or check the id, the revision and the network"
        ) from None
    return Path(local)


def check_model_dir(path: Path) -> None:
    """Raise ModelError, naming the file and the remedy, unless this is a safe and complete model directory."""
    if not path.is_dir():
        raise ModelError(f"{path}: no such model directory; give a directory with config.json and *.safetensors")
    root = _allowed_root(path)
    files = []
    for file in sorted(path.rglob("*")):
        if not file.resolve().is_relative_to(root):
            raise ModelError(f"{file}: links outside the model directory; replace the link by the file itself")
        if file.suffix.lower() in CODE:
            raise ModelError(f"{file}: code in a model directory; remove it (no model code is ever run)")
        if file.suffix.lower() in PICKLES:
            raise ModelError(f"{file}: pickled weights can run code; convert them to safetensors and remove the file")
        if file.is_file():
            files.append(file.relative_to(path).as_posix())
        elif not file.is_dir():
            raise ModelError(f"{file}: not a regular file (broken link?); replace or remove it")
    for name in files:
        if name.endswith("config.json") and "auto_map" in _read_json(path / name):
            raise ModelError(f"{path / name}: key auto_map asks for the model's own code; remove the key")
        if name.endswith(".safetensors.index.json"):
            _check_index(path / name)
    if "config.json" not in files:
        raise ModelError(f"{path}: config.json is missing; save the model with save_pretrained")
    if not any(name.endswith(".safetensors") and "/" not in name for name in files):
        raise ModelError(f"{path}: no *.safetensors weights; save the model with save_pretrained (safetensors)")
    if not any(name in files for name in TOKENIZERS):
        raise ModelError(f"{path}: no tokenizer ({' or '.join(TOKENIZERS)}); save it beside the model")
    if not _has_chat_template(path, files):
        raise ModelError(f"{path}: no chat template; add chat_template.jinja (base models need one of their own)")


def _check_index(file: Path) -> None:
    """Raise ModelError if the index of a model in several files names one that is not beside it."""
    shards = _read_json(file).get("weight_map")
    if not isinstance(shards, dict):
        raise ModelError(f"{file}: no weight_map; save the model again")
    for shard in sorted({str(shard) for shard in shards.values()}):
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise ModelError(f"{file}: weights in {shard[:80]!r}: not a safetensors file of this directory; mend it")


def revision(path: Path) -> str:
    """Content hash of a model directory: sha256 over sorted (name, sha256) of its files, 16 hex digits."""
    total = hashlib.sha256()
    for file in sorted(path.rglob("*"), key=lambda f: f.relative_to(path).as_posix()):
        if file.is_file():
            total.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
    return total.hexdigest()[:16]


def file_sha256(file: Path) -> str:
    """sha256 (64 hex digits) of one file, remembered in this process while size and mtime stay the same."""
    stat = file.stat()
    key = (str(file.resolve()), stat.st_size, stat.st_mtime_ns)
    if key not in _hashes:
        with file.open("rb") as stream:
            _hashes[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _hashes[key]


def _allowed_root(path: Path) -> Path:
    """Where links may lead: the directory itself, or the model's whole folder in a hub cache (snapshots -> blobs)."""
    real = path.resolve()
    cached = real.parent.name == "snapshots" and real.parent.parent.name.startswith("models--")
    return real.parent.parent if cached else real


def _has_chat_template(path: Path, files: list[str]) -> bool:
    if "chat_template.jinja" in files or "chat_template.json" in files:
        return True
    return "tokenizer_config.json" in files and bool(_read_json(path / "tokenizer_config.json").get("chat_template"))


def _read_json(file: Path) -> dict[str, object]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: not readable as JSON ({str(error)[:80]}); download or save it again") from None
    if not isinstance(data, dict):
        raise ModelError(f"{file}: expected a JSON object, found {type(data).__name__}; save it again")
    return data
