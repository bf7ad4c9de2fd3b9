"""The model registry: register a student by content hash, move aliases, list the versions (`agentark models`).

Gigabytes are not copied: a version points to its folder and carries a hash manifest of the files. Lineage is in the
version's tags, for example:

    agentark.revision  content hash (model_files.revision); the same content is never registered twice
    agentark.uri       file:///... of the model folder
    lineage.traces     fingerprints of the debates        metric.accuracy   0.687
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from agentark_core.errors import ConfigError
from agentark_core.model_files import check_model_dir, file_sha256, revision
from agentark_core.tracking import Run
from agentark_core.tracking_link import Link, Refused, TrackingError, Unreachable, clean_key, database_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

REVISION_TAG, URI_TAG = "agentark.revision", "agentark.uri"
_TIMEOUT_S = 60.0

T = TypeVar("T")


def file_manifest(model_dir: Path) -> dict[str, str]:
    """sha256 of every file below model_dir, by relative path."""
    files = (path for path in sorted(model_dir.rglob("*")) if path.is_file())
    return {file.relative_to(model_dir).as_posix(): file_sha256(file) for file in files}


def register_student(
    run: Run,
    *,
    name: str,
    model_dir: Path,
    lineage: Mapping[str, str],
    metrics: Mapping[str, float],
    alias: str = "candidate",
) -> dict[str, Any]:
    """Register the model in model_dir under name, made by run, and set alias on it; returns one row of `list_models`.

    Content that is registered already keeps its version (its metrics are renewed); two processes that register it at
    once end with one version. ModelError if the folder is incomplete or unsafe. TrackingError if MLflow is away: run
    the stage again later, it changes nothing else.
    """
    check_model_dir(model_dir)
    text = json.dumps(file_manifest(model_dir), indent=2, sort_keys=True)
    digest = revision(model_dir)
    folder_uri = model_dir.resolve().as_uri()
    metric_tags = {f"metric.{clean_key(key)}": repr(float(value)) for key, value in metrics.items()}
    lineage_tags = {f"lineage.{clean_key(key)}": value for key, value in lineage.items()}
    tags = {REVISION_TAG: digest, URI_TAG: folder_uri} | lineage_tags
    link = run.tracker.link
    run.tracker.replay()  # the run itself may still be in the buffer

    def work() -> dict[str, Any]:
        client, run_id = link.client(), link.run_id(run.run_id)
        _ensure_model(client, name)
        version = _with_revision(client, name, digest)
        if version is None:
            client.log_text(run_id, text, "model/manifest.json")
            # A server takes no paths of other machines as source, so there the version points to the manifest.
            source = f"runs:/{run_id}/model" if link.uri.startswith("http") else folder_uri
            created = client.create_model_version(name, source, run_id=run_id, tags=tags, await_creation_for=0)
            version = _with_revision(client, name, digest) or created
            if version.version != created.version:  # another process was first
                client.delete_model_version(name, created.version)
        for key, value in metric_tags.items():
            client.set_model_version_tag(name, version.version, key, value)
        _set_alias(client, name, alias=alias, version=version.version)
        return _row(client.get_model_version(name, version.version))

    return _now(link, work)


def list_models(uri: str) -> list[dict[str, Any]]:
    """Every version of every registered model, newest first.

    Keys: name, version, aliases, created (UTC), metrics, lineage, revision, path (of the model folder), run_id.
    """
    database = database_file(uri)
    if database is not None and not database.exists():
        return []  # MLflow would make the file, in a home that was perhaps mistyped
    link = Link(uri=uri, home=Path(), experiment="")

    def work() -> list[dict[str, Any]]:
        # A search returns versions without their aliases; those come with the registered models.
        aliases: dict[tuple[str, int], list[str]] = {}
        for model in link.client().search_registered_models(max_results=1000):
            for alias, version in sorted(model.aliases.items()):
                aliases.setdefault((model.name, int(version)), []).append(alias)
        rows = [_row(version) for version in link.client().search_model_versions()]
        rows = [row | {"aliases": aliases.get((row["name"], row["version"]), [])} for row in rows]
        return sorted(rows, key=lambda row: (row["created"], row["version"]), reverse=True)

    return _now(link, work)


def find_version(rows: Sequence[Mapping[str, Any]], model: str) -> Mapping[str, Any]:
    """Of the rows of `list_models`: NAME (its newest version), NAME@ALIAS or NAME/VERSION, also after `models:/`.

    Raises ConfigError that lists what is registered.
    """
    wanted = model.removeprefix("models:/")
    name, at, alias = wanted.partition("@")
    of_name = [row for row in rows if row["name"] == name]
    if at:
        found = [row for row in of_name if alias in row["aliases"]]
    else:
        found = of_name or [row for row in rows if f"{row['name']}/{row['version']}" == wanted]
    if not found:
        known = [" ".join([f"{row['name']}/{row['version']}", *(f"@{a}" for a in row["aliases"])]) for row in rows]
        raise ConfigError(
            f"{model}: no such model folder, and not registered; there are: {', '.join(known[:20]) or 'none'}. "
            "Give NAME, NAME@ALIAS, NAME/VERSION or a folder, and the --home of its run"
        )
    return max(found, key=lambda row: int(row["version"]))


def folder_of(row: Mapping[str, Any]) -> Path:
    """The model folder that a row of `list_models` points to."""
    return Path(unquote(urlsplit(row["path"]).path))


def render_models(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of `list_models` as plain text of 100 columns."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return "no registered models yet; `agentark` registers one at the end of distil\n"
    console = Console(file=StringIO(), width=100, color_system=None, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for header in ("model", "version", "aliases", "created (UTC)", "metrics", "revision"):
        table.add_column(header, overflow="fold")
    for row in rows:
        metrics = " ".join(f"{key}={value:.4g}" for key, value in row["metrics"].items())
        cells = (
            row["name"],
            str(row["version"]),
            " ".join(row["aliases"]),
            row["created"],
            metrics,
            row["revision"],
        )
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    for row in rows:
        console.print(Text(f"{row['name']} {row['version']}: {row['path']}"), soft_wrap=True)
        for key, value in row["lineage"].items():
            console.print(Text(f"    {key}: {value}"), soft_wrap=True)
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def _now(link: Link, work: Callable[[], T]) -> T:
    try:
        return link.call(work, timeout_s=_TIMEOUT_S)
    except (Unreachable, Refused) as error:
        raise TrackingError(f"model registry at {link.uri}: {error}; check MLflow, then run this again") from None


def _set_alias(client: MlflowClient, name: str, *, alias: str, version: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.set_registered_model_alias(name, alias, version)
    except MlflowException:  # two at once both insert the new alias; the one that came second now finds it
        client.set_registered_model_alias(name, alias, version)


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _with_revision(client: MlflowClient, name: str, digest: str) -> ModelVersion | None:
    versions = client.search_model_versions(f"name = '{name}' and tags.`{REVISION_TAG}` = '{digest}'")
    return min(versions, key=lambda version: int(version.version), default=None)


def _row(version: ModelVersion) -> dict[str, Any]:
    tags = version.tags
    created = time.gmtime(version.creation_timestamp / 1000)
    return {
        "name": version.name,
        "version": int(version.version),
        "aliases": sorted(version.aliases),
        "created": time.strftime("%Y-%m-%d %H:%M:%S", created),
        "metrics": {k.removeprefix("metric."): float(v) for k, v in tags.items() if k.startswith("metric.")},
        "lineage": {k.removeprefix("lineage."): v for k, v in tags.items() if k.startswith("lineage.")},
        "revision": tags.get(REVISION_TAG, ""),
        "path": tags.get(URI_TAG, version.source),
        "run_id": version.run_id,
    }
