"""Model directories: what is refused, and what the content hash depends on."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from agentark_core import model_files
from agentark_core.config import ModelConfig
from agentark_core.errors import ModelError


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make("qwen3", tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def add(name: str) -> Callable[[Path], None]:
    return lambda model: (model / name).write_bytes(b"x") and None


def remove(*names: str) -> Callable[[Path], None]:
    return lambda model: [(model / name).unlink() for name in names] and None


def auto_map(name: str) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        data = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps({**data, "auto_map": {"AutoModel": "modeling.X"}}))

    return apply


def link(model: Path) -> None:
    (model / "notes.json").symlink_to("/etc/hostname")


def index(shard: str) -> Callable[[Path], None]:
    weights = json.dumps({"metadata": {}, "weight_map": {"model.norm.weight": shard}})
    return lambda model: (model / "model.safetensors.index.json").write_text(weights) and None


DAMAGE = [
    (add("modeling_x.py"), "modeling_x.py: code"),
    (add("pytorch_model.bin"), "pytorch_model.bin: pickled"),
    (add("optimizer.PT"), "pickled"),
    (add("state.pkl"), "pickled"),
    (auto_map("config.json"), "config.json: key auto_map"),
    (auto_map("tokenizer_config.json"), "tokenizer_config.json: key auto_map"),
    (link, "notes.json: links outside"),
    (index("../secret.safetensors"), "index.json: weights in '../secret.safetensors': not a safetensors file of this"),
    (index("/etc/secret.safetensors"), "index.json: weights in '/etc/"),
    (index("weights.bin"), "index.json: weights in 'weights.bin'"),
    (remove("config.json"), "config.json is missing"),
    (remove("model.safetensors"), "safetensors"),
    (remove("tokenizer.json"), "no tokenizer"),
    (remove("chat_template.jinja"), "no chat template"),
    (lambda model: (model / "config.json").write_text("{"), "not readable as JSON"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_unsafe_or_incomplete_directories_are_refused(
    model: Path, damage: Callable[[Path], None], message: str
) -> None:
    model_files.check_model_dir(model)
    damage(model)
    with pytest.raises(ModelError, match=message):
        model_files.check_model_dir(model)


class Planted:
    """Unpickled, it leaves a marker file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin", "sub/training_args.PT", "scores.pkl"])
def test_a_planted_pickle_is_refused_by_every_way_in_and_never_loaded(model: Path, tmp_path: Path, name: str) -> None:
    from agentark_core.training import planning
    from agentark_core.training.prm_model import PRM

    marker = tmp_path / "ran"
    (model / "sub").mkdir()
    (model / name).write_bytes(pickle.dumps(Planted(marker)))
    (model / "prm.json").write_text("{}")
    for way_in in (
        lambda: model_files.resolve(ModelConfig(path=str(model))),
        lambda: planning.checked_base({"model": str(model)}),
        lambda: PRM.load(model),
    ):
        with pytest.raises(ModelError, match="pickled weights can run code"):
            way_in()
    assert not marker.exists()
    pickle.loads((model / name).read_bytes())
    assert marker.exists(), "loaded, it would have run"


def test_code_in_a_subfolder_is_refused_too(model: Path) -> None:
    (model / "sub").mkdir()
    add("sub/x.py")(model)
    with pytest.raises(ModelError, match="code in a model directory"):
        model_files.check_model_dir(model)


def test_the_hub_cache_s_links_to_its_own_blobs_are_allowed(model: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in model.iterdir():
        shutil.copy(file, blobs / file.name)
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    model_files.check_model_dir(snapshot)
    assert model_files.revision(snapshot) == model_files.revision(model)
    (snapshot / "secret.json").symlink_to("/etc/hostname")
    with pytest.raises(ModelError, match="links outside"):
        model_files.check_model_dir(snapshot)


def test_revision_follows_names_and_contents_only(model: Path, tmp_path: Path) -> None:
    before = model_files.revision(model)
    assert len(before) == 16
    moved = Path(shutil.copytree(model, tmp_path / "elsewhere"))
    assert model_files.revision(moved) == before
    (moved / "config.json").write_text((moved / "config.json").read_text() + " ")
    assert model_files.revision(moved) != before
    (model / "config.json").rename(model / "config2.json")
    assert model_files.revision(model) != before


def test_resolve_takes_directories_and_names_the_remedy_otherwise(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model_files.resolve(ModelConfig(path=str(model))) == model
    for path, message in [("arkling:huge", "arkling:teacher"), ("/no/such/model", "no such model directory")]:
        with pytest.raises(ModelError, match=message):
            model_files.resolve(ModelConfig(path=path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="download it first"):
        model_files.resolve(ModelConfig(path="nobody/no-such-model"))
