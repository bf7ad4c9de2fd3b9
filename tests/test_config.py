"""Config files: defaults, overrides, and one clear line for each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from agentark_core.config import BuildTracesConfig, check_name, load
from agentark_core.config_reference import reference
from agentark_core.errors import ConfigError
from agentark_core.flow_runner import FLOWS

REPOSITORY = Path(__file__).resolve().parents[1]
MINIMAL = {"teacher": {"path": "some/model"}}


def written(tmp_path: Path, data: object) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return path


def test_defaults_are_the_papers(tmp_path: Path) -> None:
    config = load(BuildTracesConfig, written(tmp_path, MINIMAL))
    assert (config.debate.num_agents, config.debate.num_rounds, config.debate.summariser) == (5, 3, "always")


def test_overrides_reach_nested_keys_with_their_types(tmp_path: Path) -> None:
    overrides = ["debate.num_agents=3", "debate.sampling.temperature=0", "run.name=night-2", "problems.path=a=b.jsonl"]
    config = load(BuildTracesConfig, written(tmp_path, MINIMAL), overrides=overrides)
    assert (config.debate.num_agents, config.debate.sampling.temperature) == (3, 0.0)
    assert (config.run.name, config.problems.path) == ("night-2", "a=b.jsonl")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({**MINIMAL, "debat": {}}, ["config.yaml", "debat", "unknown key"]),
        ({**MINIMAL, "debate": {"num_agents": "many"}}, ["debate.num_agents", "valid integer"]),
        ({**MINIMAL, "debate": {"num_agents": 0}}, ["debate.num_agents", "greater than or equal to 1"]),
        ({**MINIMAL, "debate": {"layout": "ring"}}, ["debate.layout", "'board'"]),
        ({**MINIMAL, "run": {"name": "../x"}}, ["run.name", "invalid name"]),
        ({}, ["teacher", "Field required"]),
        ("- a\n- b\n", ["expected a mapping"]),
        ("a: [", ["not readable"]),
    ],
)
def test_each_mistake_names_file_key_and_remedy(tmp_path: Path, data: object, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(BuildTracesConfig, written(tmp_path, data))
    assert all(word in str(caught.value) for word in words)


def test_missing_file_and_malformed_override(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        load(BuildTracesConfig, tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="section.key=value"):
        load(BuildTracesConfig, written(tmp_path, MINIMAL), overrides=["debate"])


HOSTILE = [
    *("../x", "..\\x", "%2e%2e%2f", "%252e%252e%252f", "file:///etc/passwd"),
    *("a\0b", "a" * 300, "\u202eabc", "-x", ""),
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_could_leave_their_folder_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="invalid name"):
        check_name(name)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("key", ["run.name", "problems.dataset", "tracking.experiment", "tracking.registered_model"])
def test_every_name_of_a_config_is_checked_before_anything_is_made(tmp_path: Path, key: str, name: str) -> None:
    section, field = key.split(".")
    data: dict[str, dict[str, str]] = {**MINIMAL, "run": {"home": str(tmp_path / "home")}}
    data[section] = {**data.get(section, {}), field: name}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=rf"config.json: {key}: .*invalid name"):
        load(BuildTracesConfig, file)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "deployments").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_deployment_is_a_valid_config(path: Path) -> None:
    flows = {"nightly": "build-traces", "paper_grid": "sweep"}
    load(FLOWS[flows.get(path.stem, "full-pipeline")][1], path)


@pytest.mark.parametrize("flow", FLOWS)
def test_the_server_would_take_every_deployments_parameters(flow: str) -> None:
    """Prefect checks them against the JSON schema of the flow's parameters, which knows no validators of ours."""
    from prefect.utilities.callables import parameter_schema_from_entrypoint
    from prefect.utilities.schema_tools.validation import validate

    deployments = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    entrypoint = f"flows/{flow.replace('-', '_')}.py:{flow.replace('-', '_')}"
    schema = parameter_schema_from_entrypoint(entrypoint).model_dump()
    for deployment in deployments:
        if deployment["entrypoint"] == entrypoint and "parameters" in deployment:
            file = deployment["parameters"]["config"].strip("{} ").removesuffix(".config")
            config = yaml.safe_load((REPOSITORY / "deployments" / f"{file}.yaml").read_text())
            validate({"config": config}, schema, raise_on_error=True)


def test_the_config_reference_is_current() -> None:
    assert (REPOSITORY / "docs" / "config.md").read_text() == reference(), (
        "run: python -m agentark_core.config_reference > docs/config.md"
    )
