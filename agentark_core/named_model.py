"""The model that a command's argument names: a folder, a shipped one, or a version of the registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agentark_core import model_files
from agentark_core.config import ModelConfig, TrackingConfig
from agentark_core.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedModel:
    """A name for folders (NAME-VERSION of a registered one) and the checked model folder."""

    label: str
    folder: Path


def find_model(model: str, *, home: Path) -> NamedModel:
    """A folder or a shipped model by its path, else a version of the registry (registry_view.find_version).

    Raises ConfigError if there is no such thing, ModelError if its folder is gone, unsafe, or has changed since.
    """
    if model.startswith(("arkling:", "/", ".", "~")) or Path(model).is_dir():
        folder = model_files.resolve(ModelConfig(path=model))
        return NamedModel(label=model.replace(":", "-") if model.startswith("arkling:") else folder.name, folder=folder)
    from agentark_core import registry_view
    from agentark_core.tracking import tracking_uri

    found = registry_view.find_version(registry_view.list_models(tracking_uri(TrackingConfig(), home=home)), model)
    folder = registry_view.folder_of(found)
    model_files.check_model_dir(folder)
    if (now := model_files.revision(folder)) != found["revision"]:
        raise ModelError(
            f"{folder}: content {now}, but {found['name']} {found['version']} was registered with {found['revision']}; "
            "the files were changed since: restore them, or evaluate the folder as it is by its path"
        )
    return NamedModel(label=f"{found['name']}-{found['version']}", folder=folder)
