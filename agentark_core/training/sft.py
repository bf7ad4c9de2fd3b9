"""SFT, R-SFT (Eq. 1) and data augmentation (Eq. 2): TRL under DeepSpeed, from a resolved config to a model directory.

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
import importlib.util
import json
import logging
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

from agentark_core import model_files
from agentark_core.chat import ChatFormat
from agentark_core.config import SFTConfig
from agentark_core.errors import AgentArkError, ConfigError
from agentark_core.training import checkpoints, memory, sft_data
from agentark_core.training.sft_plan import Plan, finished, plan, tokenizer_files

SFT_VERSION = "sft-2"
"""Changes when the same config would train another model: part of a student's fingerprint."""
FINAL_LOSS_STEPS = 10
"""final_loss is the mean loss of this many last steps."""


def train(resolved: dict[str, Any]) -> dict[str, Any]:
    """Run (or resume, or return at once) one job in this process, a member of its group; return the result.

    Result: {model, revision, steps, examples, too_long, final_loss, tokens, seconds}, without the first two on ranks
    other than 0; tokens include prompts and count every pass, seconds are those of the training loop.
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
    _check_kernels(job.config, on_gpu=on_gpu)
    if on_gpu:
        shared = job.config.model_copy(update={"num_workers": job.world_size})
        memory.check(job.base, shared, available=torch.cuda.get_device_properties(0).total_memory)
    else:
        torch.set_num_threads(threads)
        _skip_shared_memory_op()
    from agentark_core.training.sft_trainer import MetricsFile, build_trainer

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
    trainer = build_trainer(job, rows, chat=chat, steps=steps, on_gpu=on_gpu, metrics=metrics)
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


def _check_kernels(config: SFTConfig, *, on_gpu: bool) -> None:
    """Raise ConfigError if a GPU option meets no GPU or lacks its package."""
    wanted = {"liger": ("liger_kernel", config.liger), "attention": ("flash_attn", config.attention != "sdpa")}
    for key, (package, on) in wanted.items():
        if on and not on_gpu:
            raise ConfigError(f"sft.{key} is for GPUs and this process sees none; leave it out, or train on a GPU")
        if on and importlib.util.find_spec(package) is None:
            name = package.replace("_", "-")
            raise ConfigError(f"sft.{key} needs the package {name}, which is not installed: pip install {name}")


def _publish(job: Plan, trainer: Any, *, result: dict[str, Any], main: bool) -> dict[str, Any]:
    """Write output/model in the base's own dtype and beside the base's own tokenizer files, then COMPLETE."""
    from agentark_core.training import student_model

    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    final = job.output / "model"
    if main:
        model = trainer.accelerator.unwrap_model(trainer.model)
        dtype = _base_dtype(job.base)
        temporary = job.output / "model.tmp"
        for folder in (temporary, final):
            shutil.rmtree(folder, ignore_errors=True)
        if job.config.lora:
            state = student_model.merged(state, lora=job.config.lora)
            model = model.get_base_model()
        # A tied head is the embedding; gathered, it is a copy that would be stored a second time.
        state = {name: weight for name, weight in state.items() if name not in model.all_tied_weights_keys}
        model.save_pretrained(temporary, state_dict={name: weight.to(dtype) for name, weight in state.items()})
        for file in [job.base / "config.json", *tokenizer_files(job.base)]:
            shutil.copyfile(file, temporary / file.name)
        generation = job.base / "generation_config.json"
        if generation.is_file():
            shutil.copyfile(generation, temporary / generation.name)
        lineage = {"parents": [job.revision], "examples": job.digest, **result, "sft": job.config.model_dump()}
        (temporary / "agentark.json").write_text(json.dumps(lineage, indent=1, sort_keys=True), encoding="utf-8")
        temporary.rename(final)
        model_files.check_model_dir(final)
        result = {"model": str(final), "revision": model_files.revision(final), **result}
        checkpoints.write_marker(job.output, {"run": job.run, "result": result}, payload=final)
    trainer.accelerator.wait_for_everyone()
    return result


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


def _leave_group() -> None:
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_initialized():
        distributed.destroy_process_group()


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
    logging.getLogger("agentark_core").setLevel(logging.INFO)
    try:
        try:
            resolved = json.loads(arguments.config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{arguments.config}: not readable as JSON: {error}") from None
        result = train(resolved)
    except AgentArkError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        _leave_group()
    if os.environ["RANK"] == "0":
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
