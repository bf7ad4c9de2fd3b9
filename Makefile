# Everything runs in .venv, which `make setup` makes from infra/locks/. Telemetry of the parts is off.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0
export VLLM_NO_USAGE_STATS := 1

# Resolved when used: .venv is a link if this path has a space (infra/install.sh says why).
python = "$$(realpath .venv)/bin/python"

.PHONY: help setup demo test lint bench bench-debate bench-train experiments up down lm-eval clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' Makefile

setup: ## make .venv from the lock (AGENTARK_EXTRA=cuda for GPUs); instant when up to date
	@bash infra/install.sh

demo: setup ## debate, distil and evaluate the shipped tiny models on this machine
	$(python) -m agentark_core.cli run full-pipeline --config deployments/laptop.yaml

test: setup ## all tests, three at a time
	$(python) -m pytest -n 3 --dist worksteal

lint: setup ## ruff and mypy
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

bench: setup ## all benchmarks (CASES=FILE names labelled answers for the verifier's)
	@$(python) benchmarks/verifier.py $(CASES)
	@$(python) benchmarks/fuzz_verifier.py --cases 2000
	@$(python) benchmarks/client_cpu.py
	@$(python) benchmarks/scale_simulation.py
	@$(python) benchmarks/scale_simulation.py --check
	@$(python) -m benchmarks.extraction
	@$(MAKE) bench-train
	@$(MAKE) bench-debate

bench-train: setup ## SFT and the GRPO step against plain TRL; on a GPU also MFU, step times and memory
	@$(python) benchmarks/sft_packing.py
	@$(python) benchmarks/grpo_step.py
	@$(python) -m benchmarks.train_gpu

bench-debate: setup ## the benchmarks of debates (docs/benchmarks.md; about 40 min on two cores)
	@$(python) -m benchmarks.debate

experiments: setup ## what each strategy and control gains on arkling (hours on two cores; in experiments-home)
	@$(python) -m experiments.strategies_arkling --home experiments-home
	@$(python) -m experiments.seeds_table experiments-home/strategies.json --minus R-SFT rejection-sampled \
		--minus DA R-SFT --minus R-SFT "gold solutions" --minus rejection-sampled "gold solutions" \
		--minus "R-SFT + DA" DA --minus "R-SFT + DA" rejection-sampled \
		--minus "R-SFT + PAD, gentle" R-SFT --minus "PAD + DA, gentle" DA \
		--minus "PAD + DA, gentle" "R-SFT + DA" --minus "R-SFT, none corrective" "R-SFT, as few tokens" \
		--minus "majority's traces" rejection-sampled --minus R-SFT "majority's traces" --minus R-SFT "R-SFT, first round" \
		--minus "R-SFT + PAD, likelihood PRM, a whole epoch" R-SFT
	@$(python) -m experiments.strategies_arkling --home experiments-home/longer --epochs 8 --splits test ood \
		--arms R-SFT rejection-sampled DA "R-SFT + DA, as many steps"
	@$(python) -m experiments.seeds_table experiments-home/longer/strategies.json --minus R-SFT rejection-sampled \
		--minus DA R-SFT --minus DA rejection-sampled --minus "R-SFT + DA, as many steps" R-SFT \
		--minus "R-SFT + DA, as many steps" DA
	@$(python) -m experiments.strategies_arkling --home experiments-home/quarter --questions 625 --splits test ood \
		--arms R-SFT "PAD, likelihood PRM" "R-SFT + PAD, likelihood PRM, a whole epoch"
	@$(python) -m experiments.seeds_table experiments-home/quarter/strategies.json --minus "PAD, likelihood PRM" R-SFT \
		--minus "R-SFT + PAD, likelihood PRM, a whole epoch" "R-SFT + PAD, likelihood PRM, a whole epoch: before PAD"
	@$(python) -m experiments.scaling_arkling --home experiments-home
	@$(python) -m experiments.share_arkling --home experiments-home \
		--students $(foreach seed,0 1 2,steps-student-5000-5x1-16-$(seed))
	@$(python) -m experiments.grpo_arkling --out experiments-home/grpo --test 1000
	@$(python) -m experiments.prm_arkling --base teacher --out experiments-home/prm
	@$(python) -m experiments.prm_arkling --base large --out experiments-home/prm-large --losses bce none --seeds 1 \
		--questions 4000 --samples 4 --stage1 1 2e-3 --stage2 3 1e-3
	@for base in small student teacher large; do $(python) -m experiments.prm_arkling --base $$base --out experiments-home/prm-large \
		--head likelihood --losses bce contrastive --questions 4000 --samples 4 --stage1 4 1e-2 --stage2 0 1e-3 || exit; done
	@$(python) -m experiments.step_labels_arkling --home experiments-home/labels
	@$(python) -m experiments.reviewing_arkling --out experiments-home/reviewing

up: setup ## start Prefect, MLflow, Ray and a worker on loopback
	@$(python) infra/services.py up

down: setup ## stop what `make up` started
	@$(python) infra/services.py down

lm-eval: setup ## lm-evaluation-harness on a student: make lm-eval STUDENT=NAME@ALIAS or a folder [TASKS=arkling,gsm8k]
	@$(python) -m agentark_core.cli lm-eval "$(or $(STUDENT),agentark-student)" --tasks "$(or $(TASKS),arkling)"

clean: ## remove the environments and caches; runs in agentark-home stay
	rm -rf "$$(realpath .venv)" .venv .venv-lm-eval .venv-lm-eval.lock build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
