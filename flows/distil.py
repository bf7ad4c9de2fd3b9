"""distil: verified debates in; a trained and registered student out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prefect import flow

from agentark_core import model_files, yields
from agentark_core.chat import ChatFormat
from agentark_core.config import DistilConfig, ExamplesConfig, PipelineConfig
from agentark_core.extraction import ExtractJob, Kind
from agentark_core.judge import setup
from agentark_core.ledger import atomic_write_json
from agentark_core.tracking import Run
from agentark_core.training import grpo_data, memory, prm_plan
from agentark_core.training.sft_data import read_metrics
from flows import stage
from flows.extraction_stage import existing_debates, extract_runs, write_cards
from tasks.extract_tasks import ExampleSet, example_set
from tasks.registry_tasks import register_student
from tasks.training_tasks import Trained, train_grpo, train_prm, train_sft

CURVE_POINTS = 50
"""Points of the training curve sent to MLflow (70 ms each on sqlite); metrics.jsonl has every step."""

LEARNS_FROM: dict[str, Kind] = {
    "sft_answer": "answer",
    "rsft": "rsft",
    "da": "augmentation",
    "prm": "process",
    "grpo": "prompts",
    "ppo": "prompts",
}
"""The kind of extracted rows that each training job reads."""
POLICIES = ("grpo", "ppo")
"""The jobs that sample solutions, and hold questions out for their watch."""


@flow(
    name="distil",
    flow_run_name=stage.run_name,
    task_runner=stage.TASK_RUNNER,
    description=__doc__,
)
def distil(config: DistilConfig, *, parent_run_id: str = "") -> dict[str, Any]:
    """Verify and extract what is missing, run the strategies one after the other, register what each made.

    config.traces are fingerprints of debate runs: of build-traces or of `agentark import`. Each strategy starts from
    the student that the one before made; each job is a child run in MLflow and a version in the registry, with its
    parent. No stage learns from the questions that the watch of GRPO or PPO asks.
    """
    home = stage.prepare_home(config.run)
    check_models(config)
    judge = setup(config.verification.judge)
    jobs = extract_runs(
        config.traces,
        config=needed(config),
        wording=config.student.prompts,
        judge=judge,
        workers=0,
        seed=config.run.seed,
        home=home,
    )
    lineage = {
        "debates": ",".join(config.traces),
        "debate_manifests": ",".join(existing_debates(home, fingerprint=name).digest() for name in config.traces),
        "verdict_manifests": ",".join(job.verdicts.digest() for job in jobs),
        "base_model": config.student.path,
    }
    with stage.tracked("distil", config=config, home=home, parent_run_id=parent_run_id) as run:
        cards = write_cards(jobs, run=run)
        student, reward_model, watched = config.student, None, watched_questions(config, jobs=jobs)
        done: list[dict[str, Any]] = []
        for number, name in enumerate(jobs_of(config), start=1):
            examples = example_set(jobs, LEARNS_FROM[name])
            if name not in POLICIES:
                examples = examples.without(watched)
            stage.counts_table(f"{number}-{name.replace('_', '-')}", {"rows": examples.rows, **examples.counts})
            with run.stage(f"{number} {name}") as child:
                if name == "prm":
                    made = reward_model = train_prm(student, examples=examples, prm=config.prm, home=home)
                elif name in POLICIES:
                    prm = reward_model.path if reward_model else None
                    made = train_grpo(student, prompts=examples, prm=prm, grpo=config.grpo, home=home)
                else:
                    made = train_sft(student, strategy=name, examples=examples, sft=config.sft, home=home)
                done.append(_record(name, made, examples=examples, runs=(run, child)))
            done[-1]["registered"] = register_student(
                config.tracking.of_reward_model() if name == "prm" else config.tracking,
                home=home,
                model_dir=made.path,
                run_id=child.run_id,
                lineage=lineage | _made_by(name, made, jobs=jobs, reward_model=reward_model),
                metrics={},
            )
            if name != "prm":
                student = config.student.model_copy(update={"path": str(made.path), "revision": ""})
    last = done[-1]
    record = {
        "model": last["model"],
        "revision": last["revision"],
        "stages": done,
        "yield": [row for job in jobs for row in yields.rows(job)],
        "cards": cards,
        "registered": last["registered"],
        "lineage": lineage | _made_by(last["strategy"], made, jobs=jobs, reward_model=reward_model),
    }
    atomic_write_json(home / "runs" / config.run.name / "student.json", record)  # for the report of the run
    return record


def needed(config: DistilConfig) -> ExamplesConfig:
    """What is extracted; no step is sampled from where no reward model learns from it."""
    if config.examples.rollouts is None or "prm" in jobs_of(config):
        return config.examples
    return config.examples.model_copy(update={"step_labels": "evidence", "rollouts": None})


def check_models(config: DistilConfig | PipelineConfig) -> None:
    """Refuse before any work what only the last strategy would find: an architecture that is no reward model, and a job
    that does not fit the GPU that is named. Raises an AgentArkError with the remedy."""
    jobs = set(jobs_of(config))
    student, rewarding = model_files.resolve(config.student), None
    if "prm" in jobs:
        rewarding = model_files.resolve(config.prm.model or config.student)
        prm_plan.check_base(rewarding)
    for name in sorted(jobs):
        section = config.prm if name == "prm" else config.grpo if name in POLICIES else config.sft
        if section.gpus_per_worker and section.gpu_memory_gib:
            memory.check(
                rewarding if name == "prm" and rewarding else student,
                section,
                available=section.gpu_memory_gib * memory.GIB,
                prm=rewarding if name in POLICIES else None,
            )


def jobs_of(config: DistilConfig | PipelineConfig) -> Iterator[Any]:
    """The training jobs of the strategies. `pad` is a process reward model, unless exact checks score the steps or
    nothing does, and then GRPO, or PPO if a value head gives the advantages."""
    for strategy in config.strategies:
        if strategy != "pad":
            yield strategy
            continue
        if config.grpo.scorer == "prm" and config.grpo.process_weight:
            yield "prm"
        yield "ppo" if config.grpo.advantage == "value" else "grpo"


def watched_questions(config: DistilConfig, *, jobs: list[ExtractJob]) -> frozenset[str]:
    """The questions that GRPO's or PPO's watch asks: what other stages learned from them would look like skill, and be
    forgotten. Empty without such a stage; EmptyDataset, before any training, if it would have too few prompts left."""
    if not set(POLICIES) & set(jobs_of(config)):
        return frozenset()
    prompts = grpo_data.read_prompts([str(path) for path in example_set(jobs, LEARNS_FROM["grpo"]).paths])
    chat, grpo = ChatFormat.load(model_files.resolve(config.student)), config.grpo
    fitting = grpo_data.fitting(prompts, chat, max_prompt_tokens=grpo.max_prompt_tokens)
    _, watched = grpo_data.hold_out(fitting, number=grpo.watch_prompts, at_least=grpo.prompts_per_step)
    return frozenset(asked.problem_id for asked in watched)


def _made_by(name: str, made: Trained, *, jobs: Sequence[ExtractJob], reward_model: Trained | None) -> dict[str, str]:
    """What is particular to one stage's model. reward_model: the last process reward model, which rewards policies."""
    rewarded = {"reward_model": reward_model.revision} if reward_model and name in POLICIES else {}
    return {
        "strategy": name,
        "examples": ",".join(job.store(LEARNS_FROM[name]).fingerprint for job in jobs),
        "base_revision": made.base_revision,
        "config": made.fingerprint,
        **rewarded,
    }


def _record(name: str, made: Trained, *, examples: ExampleSet, runs: tuple[Run, Run]) -> dict[str, Any]:
    """Send one stage's inputs to MLflow (runs: of the flow and of the stage), and its curve; returns what the flow
    reports of it."""
    learned = examples.rows - made.metrics["held_out"]
    for run in runs:
        run.log_dataset(
            name=f"{LEARNS_FROM[name]}-examples",
            digest=examples.digest,
            source=examples.paths[0].parent,
            context="training",
            rows=learned,
        )
    child = runs[-1]
    for path in sorted(made.output.glob("**/metrics.jsonl")):  # a reward model has one for each of its two stages
        part = str(path.parent.relative_to(made.output)).strip(".")
        child.log_artifact(path, folder=part)
        curve = read_metrics(path)
        for row in curve[:: max(1, len(curve) // CURVE_POINTS)]:
            figures = {key: value for key, value in row.items() if key != "step" and isinstance(value, (int, float))}
            child.log_metrics({str(Path(part, key)): value for key, value in figures.items()}, step=int(row["step"]))
    return {
        "strategy": name,
        "model": str(made.path),
        "revision": made.revision,
        "base_revision": made.base_revision,
        "examples": learned,
        "example_counts": examples.counts,
        "training": made.metrics,
    }
