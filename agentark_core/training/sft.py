"""R-SFT (Eq. 1): TRL's SFTTrainer under DeepSpeed, from one resolved config to one model directory.

By hand, alone or in a process group started by torchrun or deepspeed (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT):

    python -m agentark_core.training.sft --config resolved.json

resolved.json: {"model": directory of the base, "revision": its content hash (or ""), "examples": Parquet file or list
of them, "output": directory, "sft": keys of SFTConfig}. In the output directory:

    checkpoints/checkpoint-N/   with COMPLETE, see checkpoints.py
    metrics.jsonl               one row per step
    model/                      model.safetensors, config, tokenizer, chat template, agentark.json (lineage)
    COMPLETE                    the result; a second start returns it at once
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentark_core import model_files
from agentark_core.chat import ChatFormat
from agentark_core.config import SFTConfig, parse
from agentark_core.errors import AgentArkError, ConfigError, ModelError
from agentark_core.training import checkpoints, sft_data
from agentark_core.types import SFTExample

SFT_VERSION = "rsft-1"
"""Changes when the same config would train another model: part of a student's fingerprint."""
FINAL_LOSS_STEPS = 10
"""final_loss is the mean loss of this many last steps."""
RESUMABLE_CHANGES = {"save_steps", "keep_checkpoints", "cpus_per_worker", "gpus_per_worker", "num_workers"}
"""Settings that may differ between a checkpoint and its resumption; the world size is compared by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked job. accumulation: forward passes per optimiser step in one process."""

    base: Path
    output: Path
    config: SFTConfig
    examples: list[SFTExample]
    revision: str
    digest: str
    accumulation: int
    world_size: int

    @property
    def run(self) -> dict[str, Any]:
        """What a checkpoint and the run that resumes from it must have in common."""
        tokenizer = {f.name: model_files.file_sha256(f)[:16] for f in sorted(_tokenizer_files(self.base))}
        settings = {f"sft.{k}": v for k, v in self.config.model_dump().items() if k not in RESUMABLE_CHANGES}
        return {
            "world_size": self.world_size,
            "base_revision": self.revision,
            "examples": self.digest,
            "tokenizer": tokenizer,
            **settings,
        }


def plan(resolved: dict[str, Any], *, world_size: int) -> Plan:
    """Check everything that can be wrong before a process group exists. Raises an AgentArkError with the remedy."""
    missing = {"model", "examples", "output", "sft"} - set(resolved)
    unknown = set(resolved) - {"model", "examples", "output", "sft", "revision"}
    if missing or unknown:
        names = ", ".join(sorted(missing | unknown))
        raise ConfigError(f"resolved config: missing or unknown keys: {names}; see agentark_core/training/sft.py")
    config = parse(SFTConfig, resolved["sft"], origin="resolved config: sft")
    rows = config.micro_batch_size * world_size
    if config.batch_size % rows:
        raise ConfigError(
            f"sft.batch_size {config.batch_size} is not a multiple of micro_batch_size {config.micro_batch_size} x "
            f"processes {world_size}; set sft.micro_batch_size so that batch_size is a multiple of {world_size} times it"
        )
    base = Path(resolved["model"])
    model_files.check_model_dir(base)
    revision = model_files.revision(base)
    if resolved.get("revision") and resolved["revision"] != revision:
        raise ModelError(
            f"{base}: its content hash is {revision}, the config names {resolved['revision']}; "
            "restore the model or plan the run again"
        )
    paths = resolved["examples"]
    examples = sft_data.read_examples([paths] if isinstance(paths, str) else paths)
    return Plan(
        base=base,
        output=Path(resolved["output"]),
        config=config,
        examples=examples,
        revision=revision,
        digest=sft_data.digest(examples),
        accumulation=config.batch_size // rows,
        world_size=world_size,
    )


def finished(job: Plan) -> dict[str, Any] | None:
    """The result of a run that has ended, None if there is none. ConfigError if it was another run."""
    marker = checkpoints.read_marker(job.output)
    if marker is None:
        return None
    checkpoints.check_same_run(marker["run"], job.run, where=job.output)
    result: dict[str, Any] = marker["result"]
    return result


def train(resolved: dict[str, Any]) -> dict[str, Any]:
    """Run (or resume, or return at once) one job in this process, a member of its group; the result on every rank.

    Result: {model, revision, steps, examples, too_long, final_loss, tokens, seconds}; tokens include prompts and
    count every pass, seconds are those of the training loop.
    """
    _join_group()
    job = plan(resolved, world_size=int(os.environ["WORLD_SIZE"]))
    result = finished(job)
    if result:
        return result
    threads = max(1, int(job.config.cpus_per_worker))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # else accelerate chooses for itself
    import torch

    on_gpu = torch.cuda.is_available()
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if on_gpu else "cpu")
    if not on_gpu:
        torch.set_num_threads(threads)
        _skip_shared_memory_op()
    from agentark_core.training.sft_trainer import MetricsFile

    chat = ChatFormat.load(job.base)
    rows, too_long = sft_data.tokenise(job.examples, chat, max_length=job.config.max_length)
    steps = max(1, round(job.config.epochs * len(rows) / job.config.batch_size))
    folder = job.output / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    resume = checkpoints.latest(folder)
    if resume:
        checkpoints.check_same_run((checkpoints.read_marker(resume) or {})["run"], job.run, where=resume)
    resume_step = int(resume.name.removeprefix("checkpoint-")) if resume else 0
    main = os.environ["RANK"] == "0"
    metrics = MetricsFile(job.output / "metrics.jsonl", resume_step=resume_step, write=main)
    trainer = _trainer(job, rows, chat=chat, steps=steps, on_gpu=on_gpu, metrics=metrics)
    if main:
        checkpoints.remove_incomplete(folder)
    trainer.accelerator.wait_for_everyone()
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    trainer.check_weights()
    last = [row["loss"] for row in metrics.rows[-FINAL_LOSS_STEPS:]]
    result = {
        "steps": steps,
        "examples": len(rows),
        "too_long": too_long,
        "final_loss": sum(last) / len(last),
        "tokens": metrics.rows[-1]["tokens"],
        "seconds": metrics.rows[-1]["seconds"],
    }
    return _publish(job, trainer, result=result, main=main)


def _trainer(job: Plan, rows: list[dict[str, Any]], *, chat: ChatFormat, steps: int, on_gpu: bool, metrics: Any) -> Any:
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, PrinterCallback
    from transformers.utils.logging import disable_progress_bar
    from trl import SFTConfig as TRLConfig

    from agentark_core.training.sft_trainer import OrderedSFTTrainer

    datasets.disable_progress_bars()
    disable_progress_bar()
    config = job.config
    arguments = TRLConfig(
        output_dir=str(job.output / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=job.accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(config.warmup_ratio * steps),
        weight_decay=config.weight_decay,
        max_length=None,
        completion_only_loss=True,
        bf16=False,  # mixed precision is DeepSpeed's: torch_autocast below
        gradient_checkpointing=on_gpu,
        optim="adamw_torch",
        deepspeed=_deepspeed(config, on_gpu=on_gpu),
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        save_steps=config.save_steps,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        seed=config.seed,
    )
    # After TRLConfig, which announces ZeRO-3 to from_pretrained; weights in float32, so that small updates count.
    model = AutoModelForCausalLM.from_pretrained(
        job.base, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, local_files_only=True
    )
    lengths = [len(row["input_ids"]) for row in rows]
    order = sft_data.training_order(lengths, steps=steps, batch_size=config.batch_size, seed=config.seed)
    columns = datasets.Dataset.from_list([{key: row[key] for key in ("input_ids", "completion_mask")} for row in rows])
    trainer = OrderedSFTTrainer(
        order=order,
        example_ids=[row["example_id"] for row in rows],
        run=job.run,
        keep_checkpoints=config.keep_checkpoints,
        model=model,
        args=arguments,
        train_dataset=columns,
        processing_class=chat.tokenizer,
        callbacks=[metrics],
    )
    trainer.remove_callback(PrinterCallback)  # metrics.jsonl has every step
    return trainer


def _deepspeed(config: SFTConfig, *, on_gpu: bool) -> dict[str, Any]:
    """The DeepSpeed config. AdamW is torch's own: DeepSpeed's CPU Adam would be compiled at the first start."""
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": {
            "stage": config.zero_stage,
            "overlap_comm": on_gpu,
            "stage3_gather_16bit_weights_on_model_save": config.zero_stage == 3,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "torch_autocast": {"enabled": config.dtype == "bfloat16", "dtype": "bfloat16"},
        "steps_per_print": 10**9,
    }


def _publish(job: Plan, trainer: Any, *, result: dict[str, Any], main: bool) -> dict[str, Any]:
    """Write output/model in the base's own dtype and beside the base's own tokenizer files, then COMPLETE."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    final = job.output / "model"
    if main:
        model = trainer.accelerator.unwrap_model(trainer.model)
        dtype = _base_dtype(job.base)
        temporary = job.output / "model.tmp"
        for folder in (temporary, final):
            shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(temporary, state_dict={name: weight.to(dtype) for name, weight in state.items()})
        for file in [job.base / "config.json", *_tokenizer_files(job.base)]:
            shutil.copyfile(file, temporary / file.name)
        generation = job.base / "generation_config.json"
        if generation.is_file():
            shutil.copyfile(generation, temporary / generation.name)
        lineage = {"parents": [job.revision], "examples": job.digest, **result, "sft": job.config.model_dump()}
        (temporary / "agentark.json").write_text(json.dumps(lineage, indent=1, sort_keys=True), encoding="utf-8")
        temporary.rename(final)
    trainer.accelerator.wait_for_everyone()
    result = {"model": str(final), "revision": model_files.revision(final), **result}
    if main:
        model_files.check_model_dir(final)
        checkpoints.write_marker(job.output, {"run": job.run, "result": result}, payload=final)
    trainer.accelerator.wait_for_everyone()
    return result


def _tokenizer_files(base: Path) -> list[Path]:
    """Everything beside weights, configs and notes: tokenizer, vocabulary, merges, chat template."""
    stems = ("tokenizer", "vocab", "merges", "special_tokens_map", "added_tokens", "chat_template", "tekken")
    return [file for file in base.iterdir() if file.is_file() and file.name.startswith(stems)]


def _base_dtype(base: Path) -> Any:
    import torch

    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    return getattr(torch, config.get("dtype") or config.get("torch_dtype") or "float32")


def _join_group() -> None:
    """Fill in the environment of a group of one where no launcher did."""
    if "RANK" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in alone.items()})


def _skip_shared_memory_op() -> None:
    """Leave CPU collectives to gloo: DeepSpeed would compile an op of its own at first use (35 s, needs a compiler)."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m agentark_core.training.sft",
        description="R-SFT from a resolved config, alone or under torchrun / deepspeed.",
    )
    parser.add_argument("--config", type=Path, required=True, help="resolved.json: model, examples, output, sft")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        try:
            resolved = json.loads(arguments.config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{arguments.config}: not readable as JSON: {error}") from None
        result = train(resolved)
    except AgentArkError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if os.environ["RANK"] == "0":
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
