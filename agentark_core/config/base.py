"""What all sections share: their base class, names that are safe as folders, and reading a file into a section."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from agentark_core.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def check_name(name: str) -> str:
    """Return name if it can safely name a folder, else raise ValueError (F22: no separators, dots-only, NUL, RTL)."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise ValueError(
            f"invalid name {name[:80]!r}: use 1 to 80 letters, digits, '.', '_' or '-', starting with a letter or digit"
        )
    return name


Name = Annotated[str, AfterValidator(check_name)]


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


T = TypeVar("T", bound=BaseModel)


def load(model: type[T], path: Path, *, overrides: list[str] | None = None) -> T:
    """Read a YAML or JSON config file, apply `a.b=value` overrides, validate.

    Raises ConfigError with one line per problem: file, key, what is wrong, what to do.
    """
    data = read(path)
    for override in overrides or []:
        _apply(data, override)
    return parse(model, data, origin=str(path))


def read(path: Path) -> dict[str, Any]:
    """The sections of a YAML or JSON config file, not yet validated. ConfigError if it holds none."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file; see deployments/ for examples") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML or JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of sections at the top level, found {type(data).__name__}")
    return data


def parse(model: type[T], data: dict[str, Any], *, origin: str) -> T:
    """Validate plain data; ConfigError names origin and key."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"]) or "(top level)"
            message = "unknown key; remove it or fix its spelling" if item["type"] == "extra_forbidden" else item["msg"]
            lines.append(f"{origin}: {key}: {message}")
        raise ConfigError("\n".join(lines)) from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: write it as section.key=value")
    node = data
    *parents, leaf = key.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override}: {parent} is not a section")
    try:
        node[leaf] = yaml.safe_load(value)
    except yaml.YAMLError:
        node[leaf] = value


def deployment_parameters(path: str) -> dict[str, Any]:
    """Build step of prefect.yaml: the parameters of a deployment from its file in deployments/."""
    return {"config": yaml.safe_load(Path(path).read_text(encoding="utf-8"))}


def to_json(config: BaseModel) -> str:
    """The resolved config as canonical JSON (sorted keys), the form that is hashed and written beside a run."""
    return json.dumps(config.model_dump(mode="json"), sort_keys=True, indent=2)
