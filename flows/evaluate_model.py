"""evaluate-model: models in; a table with intervals, paired tests and tokens per question out.

Every row comes from the same debate code: a single answer is a debate of one agent and one round, majority vote is one
round of many agents. All rows are on the same held-out questions, so every comparison is paired.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.logging import get_run_logger

from agentark_core import evaluation, evaluation_report, model_files, records, strategies, text_scores, tracking, yields
from agentark_core.config import DebateConfig, EngineConfig, EvaluateConfig, ModelConfig
from agentark_core.evaluation import STUDENT
from agentark_core.judge import setup
from agentark_core.ledger import Store, atomic_write_text
from agentark_core.load import summary, view
from agentark_core.load.summary import LoadReport
from agentark_core.report import gather, write
from agentark_core.rounds import Answer
from agentark_core.text_metrics import check_bertscore
from flows import load_stage, robustness_stage, stage
from flows.debate_stage import complete_debates
from flows.robustness_stage import Robustness
from tasks.evaluation_tasks import equal_tokens, score, score_prose
from tasks.trace_tasks import DebateSpec, ProblemSet

Method = tuple[str, DebateSpec, Answer]
TEACHER_MAJORITY = "teacher majority@"


def single(config: EvaluateConfig, *, temperature: float) -> DebateConfig:
    """One answer from one call."""
    return majority_vote(config, samples=1, temperature=temperature)


def majority_vote(config: EvaluateConfig, *, samples: int, temperature: float) -> DebateConfig:
    """Independent samples in one round."""
    sampling = config.debate.sampling
    update = {"temperature": temperature, "max_tokens": config.evaluation.max_tokens or sampling.max_tokens}
    return DebateConfig(
        num_agents=samples,
        num_rounds=1,
        quorum=0,
        summariser="never",
        layout=config.debate.layout,
        sampling=sampling.model_copy(update=update),
    )


def teacher_methods(config: EvaluateConfig, *, problems: ProblemSet) -> list[Method]:
    """Teacher alone (greedy, and at debate's temperature), by majority vote at debate's calls, and by debate."""
    teacher, debate = config.teacher, config.debate
    if teacher is None:
        return []
    calls = config.evaluation.majority_samples or strategies.max_calls(debate)
    temperature = debate.sampling.temperature

    def spec(name: str, how: DebateConfig) -> DebateSpec:
        return _spec(name, model=teacher, how=how, problems=problems, config=config)

    debated = spec("teacher debate", debate)
    methods: list[Method] = [
        ("teacher greedy", spec("teacher greedy", single(config, temperature=0)), "vote"),
        ("teacher single", spec("teacher single", single(config, temperature=temperature)), "vote"),
        (
            f"{TEACHER_MAJORITY}{calls}",
            spec("teacher majority", majority_vote(config, samples=calls, temperature=temperature)),
            "vote",
        ),
        (f"teacher {debate.strategy}", debated, "vote" if debate.strategy == "debate" else "decision"),
    ]
    if debate.strategy == "debate" and debate.summariser != "never":
        methods.append(("teacher debate, summariser", debated, "summary"))
    return methods


def student_methods(name: str, *, model: ModelConfig, config: EvaluateConfig, problems: ProblemSet) -> list[Method]:
    """A student alone: greedy, sampled at debate's temperature, and by the vote of student_samples such samples."""
    temperature, samples = config.debate.sampling.temperature, config.evaluation.student_samples
    ways = {"greedy": single(config, temperature=0), "sampled": single(config, temperature=temperature)}
    if samples:
        ways[f"majority@{samples}"] = majority_vote(config, samples=samples, temperature=temperature)
    return [
        (f"{name} {way}", _spec(f"{name} {way}", model=model, how=how, problems=problems, config=config), "vote")
        for way, how in ways.items()
    ]


def all_methods(config: EvaluateConfig, *, problems: ProblemSet) -> list[Method]:
    """The rows of the table: base, student, teacher."""
    methods = []
    if config.base is not None:
        methods += student_methods("base student", model=config.base, config=config, problems=problems)
    methods += student_methods("distilled student", model=config.student, config=config, problems=problems)
    return methods + teacher_methods(config, problems=problems)


@flow(
    name="evaluate-model",
    flow_run_name=stage.run_name,
    task_runner=stage.TASK_RUNNER,
    description=__doc__,
)
def evaluate_model(
    config: EvaluateConfig, *, parent_run_id: str = "", learned: list[yields.Row] | None = None
) -> dict[str, Any]:
    """Evaluate the student beside its base, the teacher and the debate; returns the report as plain data.

    learned: the yield table of what the student was distilled from, to be part of the report; full-pipeline knows it.
    """
    home = stage.prepare_home(config.run)
    if config.evaluation.bert_score is not None:
        check_bertscore(Path(config.evaluation.bert_score.path))  # now, not after hours of answers
    problems = stage.load_held_out(config.evaluation.problems, config=config, home=home)
    methods = all_methods(config, problems=problems)
    student = next(spec for name, spec, _ in methods if name == STUDENT)
    perturbed = robustness_stage.prepare(student, config=config, home=home)
    judge = setup(config.verification.judge, engine=config.engine, teacher=config.teacher)
    with stage.tracked("evaluate-model", config=config, home=home, parent_run_id=parent_run_id) as run:
        for model in dict.fromkeys(spec.model for _, spec, _ in methods):
            specs = {spec.name: spec for _, spec, _ in methods if spec.model == model}
            specs |= {spec.name: spec for spec in perturbed.specs if spec.model == model}
            engine = engine_of(config, model)
            complete_debates(list(specs.values()), model=model, engine=engine, home=home, judge=judge)
        judge_key = judge.key if judge else None
        results = [score(name, spec=spec, answer=answer, home=home, judge=judge_key) for name, spec, answer in methods]
        discussed = f"teacher {config.debate.strategy}"
        report = evaluation.compare(
            results,
            baseline=results[0].name,
            contrasts=_contrasts([m[0] for m in methods], discussed=discussed),
            reference=discussed if config.teacher else None,
        )
        by_name = {result.name: result for result in results}
        clean = by_name[STUDENT]
        if config.teacher:
            majority = next(spec for name, spec, _ in methods if name.startswith(TEACHER_MAJORITY))
            debated = by_name[discussed]
            if any(outcome is not None for outcome in debated.outcomes.values()):  # prose without a judge has none
                equal = equal_tokens(majority, reference=debated, student=clean, home=home, judge=judge_key)
                report = evaluation.with_equal_tokens(report, equal)
        robustness = robustness_stage.score_all(perturbed, clean=clean.outcomes, home=home, judge=judge_key)
        dataset = run.log_dataset(
            name=problems.dataset,
            digest=problems.fingerprint,
            source=config.evaluation.problems.path or config.evaluation.problems.source,
            context="evaluation",
            rows=problems.rows,
        )
        made_from = {
            "questions": {"dataset": problems.dataset, "fingerprint": problems.fingerprint},
            "made_from": {name: {"debates": spec.fingerprint, "answer": answer} for name, spec, answer in methods},
        }
        folder = gather.folder(home, config.run.name)
        bert_score = config.evaluation.bert_score
        prose = {
            name: score_prose(name, spec=spec, answer=answer, home=home, bert_score=bert_score)
            for name, spec, answer in methods
        }
        text_scores.remove(folder)  # of another evaluation under this name
        scores = _write_scores(prose, problems=problems, config=config, home=home) if any(prose.values()) else []

        def publish(load: LoadReport | None) -> list[Path]:
            made = write_evaluation(
                report,
                folder=folder,
                learned=learned or [],
                robustness=robustness,
                load=load,
                made_from=made_from,
            )
            made += write_report(config.run.name, home=home, run=run)
            for path in (*made, *scores):
                run.log_artifact(path)
            return [*made, *scores]

        paths = publish(None)
        for (name, spec, _), row in zip(methods, report.rows, strict=True):
            model_id = run.log_model(name=name, revision=spec.model_revision, path=spec.model.path)
            run.log_metrics({f"accuracy/{name}": row.accuracy}, model_id=model_id, dataset=dataset)
        # Last, when everything else is safe.
        load = load_stage.measure(
            {name: spec for name, spec, _ in methods},
            config=config,
            engine_of=partial(engine_of, config),
            home=home,
            out=folder / "load.parquet",
        )
        if load is not None:
            paths = [*publish(load), folder / "load.parquet"]
            run.log_artifact(folder / "load.parquet")
            run.log_metrics(load_stage.metrics(load), dataset=dataset)
    get_run_logger().info("\n%s\n%s", evaluation_report.render_text(report), robustness.text)
    create_markdown_artifact(_markdown(report, learned or [], robustness, load), key="evaluation")
    return {"report": evaluation.to_json(report), "paths": [str(path) for path in paths]}


def write_evaluation(
    report: evaluation.EvalReport,
    *,
    folder: Path,
    learned: list[yields.Row],
    robustness: Robustness,
    load: LoadReport | None,
    made_from: dict[str, Any],
) -> list[Path]:
    """evaluation.json, evaluation.md and evaluation.png in folder; the first two hold the yield table, the failures and
    the latencies too.

    made_from: the held-out questions, and the debates that each method is scored on.
    """
    data = evaluation.to_json(report) | made_from | ({"yield": learned} if learned else {}) | robustness.data
    data |= {"load": summary.to_json(load)} if load else {}
    atomic_write_text(folder / "evaluation.json", json.dumps(data, indent=2, sort_keys=True))
    atomic_write_text(folder / "evaluation.md", _markdown(report, learned, robustness, load))
    evaluation_report.plot(report, folder / "evaluation.png")
    return [folder / name for name in ("evaluation.json", "evaluation.md", "evaluation.png")]


def _write_scores(
    scores: dict[str, dict[str, dict[str, float]]], *, problems: ProblemSet, config: EvaluateConfig, home: Path
) -> list[Path]:
    """scores.json and scores.md of a test set in prose."""
    store = Store(home, stage="problems", fingerprint=problems.fingerprint)
    questions = records.table_to_problems(store.read(shards=problems.shards))
    folder = gather.folder(home, config.run.name)
    paths, text = text_scores.write(scores, questions=questions, folder=folder, bert_score=config.evaluation.bert_score)
    get_run_logger().info("\n%s", text)
    create_markdown_artifact(text, key="scores")
    return paths


def write_report(name: str, *, home: Path, run: tracking.Run) -> list[Path]:
    """The report of the run with its debates; its verdict heads the run in MLflow and in Prefect."""
    facts = gather.gather(home, name)
    paths = write.write(facts)
    said = write.render_verdict(facts)
    link = f"The report: `{paths[0]}`, or `agentark report {name} --home {home} --open`."
    run.set_tags({"mlflow.note.content": f"{said}\n{link} It is among the artifacts too."})
    create_markdown_artifact(f"{said}\n{link}", key="report", description="What came of the run")
    url = run.url
    if url.startswith("http"):  # browsers open no file from a page of Prefect, so without MLflow it stays a path
        create_link_artifact(
            f"{url}/artifacts/{paths[0].name}",
            link_text=f"Report of {name}",
            key="report-page",
            description="The report with its figures and debates, among the artifacts of the MLflow run",
        )
    return paths


def _markdown(
    report: evaluation.EvalReport, learned: list[yields.Row], robustness: Robustness, load: LoadReport | None
) -> str:
    parts = [evaluation_report.render_markdown(report)]
    if robustness.markdown:
        parts.append(f"## {STUDENT}, other questions\n\n{robustness.markdown}")
    if load:
        parts.append(view.render_markdown(load))
    if learned:
        parts.append(f"## What the student learned from\n\n{yields.render_markdown(learned)}")
    return "\n".join(parts)


def _contrasts(names: list[str], *, discussed: str) -> list[tuple[str, str]]:
    """The discussion against the single agent at the same temperature, greedy, and majority vote at the same calls; the
    distilled student against the teacher alone and the discussion."""
    others = [
        name for name in names if name in ("teacher single", "teacher greedy") or name.startswith(TEACHER_MAJORITY)
    ]
    taught = ["teacher greedy", discussed] if others else []
    return [(discussed, other) for other in others] + [(STUDENT, other) for other in taught]


def engine_of(config: EvaluateConfig, model: ModelConfig) -> EngineConfig:
    """An endpoint or recorded generations are the teacher's; students run here."""
    return config.engine if model == config.teacher else config.engine.in_process()


def _spec(
    name: str, *, model: ModelConfig, how: DebateConfig, problems: ProblemSet, config: EvaluateConfig
) -> DebateSpec:
    return DebateSpec(
        name=name,
        problems=problems,
        model=model,
        model_revision=model_files.source(model, engine_of(config, model))[1],
        debate=how,
        # Sampled evaluation must not reuse the random numbers of the training debates.
        seed=config.run.seed + 1,
    )
