"""What every training entry point does around its trainer: join a process group, publish the model, leave.

A process is started by torchrun, deepspeed or Ray Train (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), or alone.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import math
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentark_core import heavy, model_files
from agentark_core.config import GRPOConfig, PRMConfig, SFTConfig
from agentark_core.errors import AgentArkError, ConfigError, StorageFull
from agentark_core.training import checkpoints
from agentark_core.training.planning import tokenizer_files

Result = dict[str, Any]


def join() -> int:
    """Fill in the environment of a group of one where no launcher did; returns the world size."""
    if "RANK" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in alone.items()})
    return int(os.environ["WORLD_SIZE"])


def leave() -> None:
    """End the process group, if one was begun."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_initialized():
        distributed.destroy_process_group()


def names_full_disk(train: Callable[[dict[str, Any]], Result]) -> Callable[[dict[str, Any]], Result]:
    """Wraps an entry point: a full disk, whoever met it, is StorageFull naming the output (F11)."""

    @functools.wraps(train)
    def named(resolved: dict[str, Any]) -> Result:
        try:
            return train(resolved)
        except AgentArkError:
            raise
        except Exception as error:
            if not checkpoints.disk_full(error, folder=Path(resolved["output"])):
                raise
            raise StorageFull(
                f"{resolved['output']}: no space left while writing ({str(error).splitlines()[0]}); "
                f"{checkpoints.size_needed(Path(resolved['output']))}; start again to go on from the last complete one"
            ) from error

    return named


def prepare(*, cpus: float) -> bool:
    """Settle threads and accelerator before TRL is imported; returns whether there is a GPU."""
    threads = max(1, int(cpus))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # else accelerate chooses for itself
    with heavy.imports():
        import torch

    on_gpu: bool = torch.cuda.is_available()
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if on_gpu else "cpu")
    if on_gpu:  # a reward model is loaded before the trainer chooses
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    else:
        torch.set_num_threads(threads)
        _skip_shared_memory_op()
    return on_gpu


def gpu_bytes() -> int:
    """Memory of this process's GPU."""
    import torch

    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)


def _skip_shared_memory_op() -> None:
    """Leave CPU collectives to gloo: DeepSpeed would compile an op of its own at first use (35 s, needs a compiler)."""
    with heavy.imports():
        import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def deepspeed_config(config: SFTConfig | PRMConfig | GRPOConfig, *, on_gpu: bool) -> dict[str, Any]:
    """The DeepSpeed config. AdamW is torch's own, offloaded too: DeepSpeed's would be compiled at the first start."""
    on_cpu = {"device": "cpu", "pin_memory": on_gpu}
    offloaded = {"none": (), "optimizer": ("optimizer",), "all": ("optimizer", "param")}[config.offload]
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": {
            "stage": config.zero_stage,
            "overlap_comm": on_gpu,
            "stage3_gather_16bit_weights_on_model_save": config.zero_stage == 3,
            **{f"offload_{part}": on_cpu for part in offloaded},
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "torch_autocast": {"enabled": config.dtype == "bfloat16", "dtype": "bfloat16"},
        "steps_per_print": 10**9,
    }


def trainer_arguments(
    config: SFTConfig | PRMConfig | GRPOConfig,
    *,
    output: Path,
    steps: int,
    accumulation: int,
    learning_rate: float,
    on_gpu: bool,
) -> dict[str, Any]:
    """What every job tells its transformers Trainer. output: folder of the checkpoints.

    metrics.jsonl has every step, so nothing is reported elsewhere.
    """
    return {
        "output_dir": str(output),
        "max_steps": steps,
        "per_device_train_batch_size": config.micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": learning_rate,
        "warmup_steps": math.ceil(config.warmup_ratio * steps),
        "weight_decay": config.weight_decay,
        "bf16": False,  # mixed precision is DeepSpeed's: torch_autocast
        "gradient_checkpointing": on_gpu if config.gradient_checkpointing is None else config.gradient_checkpointing,
        "optim": "adamw_torch",
        "deepspeed": deepspeed_config(config, on_gpu=on_gpu),
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "save_steps": config.save_steps,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": [],
        "disable_tqdm": True,
        "seed": config.seed,
    }


def gathered(trainer: Any) -> dict[str, Any] | None:
    """The weights of the whole model; every rank must ask. Under ZeRO-3, ranks other than 0 get None."""
    state: dict[str, Any] | None = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return state


def publish(
    trainer: Any,
    *,
    base: Path,
    output: Path,
    run: dict[str, Any],
    lineage: dict[str, Any],
    result: Result,
    weights: dict[str, Any] | None,
) -> Result:
    """Write a language model to output/model in the base's own dtype and with its configs; see write_model.

    weights: of the whole model, needed on rank 0 only (`gathered`).
    """

    def save(model: Any, folder: Path) -> None:
        if hasattr(model, "get_base_model"):  # adapters around it
            model = model.get_base_model()
        assert weights is not None
        save_weights(model, weights, to=folder, dtype=base_dtype(base))
        shutil.copyfile(base / "config.json", folder / "config.json")
        generation = base / "generation_config.json"
        if generation.is_file():
            shutil.copyfile(generation, folder / generation.name)
        (folder / "agentark.json").write_text(
            json.dumps({**lineage, **result}, indent=1, sort_keys=True), encoding="utf-8"
        )

    return write_model(trainer, base=base, output=output, run=run, result=result, save=save)


def save_weights(model: Any, weights: dict[str, Any], *, to: Path, dtype: str) -> None:
    """Write the gathered weights of the model, and its config, in a number format of torch."""
    import torch

    # A tied output layer is the embedding; gathered, it is a copy that would be stored a second time.
    kept = {name: weight for name, weight in weights.items() if name not in model.all_tied_weights_keys}
    model.save_pretrained(to, state_dict={name: weight.to(getattr(torch, dtype)) for name, weight in kept.items()})


def write_model(
    trainer: Any, *, base: Path, output: Path, run: dict[str, Any], result: Result, save: Callable[[Any, Path], None]
) -> Result:
    """On rank 0: save(model, folder), the base's own tokenizer files, output/model in one step, then COMPLETE.

    Returns result, on rank 0 with `model` and `revision`.
    """
    final = output / "model"
    if os.environ["RANK"] == "0":
        temporary = output / "model.tmp"
        for folder in (temporary, final):
            shutil.rmtree(folder, ignore_errors=True)
        save(trainer.accelerator.unwrap_model(trainer.model), temporary)
        for file in tokenizer_files(base):
            shutil.copyfile(file, temporary / file.name)
        temporary.rename(final)
        model_files.check_model_dir(final)
        result = {"model": str(final), "revision": model_files.revision(final), **result}
        checkpoints.write_marker(output, {"run": run, "result": result}, payload=final)
    trainer.accelerator.wait_for_everyone()
    return result


def base_dtype(base: Path) -> str:
    """The number format of a base's weights, as its config.json names it."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def run_cli(train: Callable[[dict[str, Any]], Result], *, module: str, what: str, argv: list[str] | None) -> int:
    """`python -m agentark_core.training.<module> --config resolved.json`; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"python -m agentark_core.training.{module}",
        description=f"{what} from a resolved config, alone or under torchrun / deepspeed.",
    )
    parser.add_argument(
        "--config", type=Path, required=True, help=f"resolved.json, see agentark_core/training/{module}.py"
    )
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
        leave()
    if os.environ["RANK"] == "0":
        print(json.dumps(result))
    return 0
