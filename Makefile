# Every command a person types. `make help` lists them; `proxygrm --help` knows more.
SHELL := /bin/bash
PATH := $(CURDIR)/.venv/bin:$(PATH):$(CURDIR)/.local/debian/usr/bin
export PATH
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH

PROFILE ?= local
RUN ?= runs/$(PROFILE)
NODES ?=
SPEC ?= aggregation
ARGS ?=
nodes = $(if $(NODES),--nodes $(NODES))
submit = proxygrm submit --profile $(PROFILE) --run $(RUN) $(nodes) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup lock doctor demo test lint cluster-up cluster-down submit-distill submit-sft submit-rl submit-eval submit-chain ablation plan status logs cancel report

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' Makefile
	@echo "  variables: PROFILE=local|a100|h100|PATH  RUN=runs/NAME  NODES=N  STAGE=NAME  SPEC=NAME  ARGS='--set rl.lr=1e-6'"

setup: ## Python environment and SLURM packages; does nothing when they are there
	@bash requirements/setup.sh

lock: ## compile requirements/*.txt anew from *.in
	@bash requirements/lock.sh

demo: setup ## the whole chain on this machine: private SLURM, tiny model, 10 to 15 minutes
	@proxygrm demo $(ARGS)

test: setup lint ## style, types and all tests, the shortened demo chain included
	@python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup ## ruff, mypy, shellcheck
	@ruff check --quiet . && ruff format --check --quiet . && mypy --no-error-summary && git ls-files -z '*.sh' 'slurm/templates/*' .ci/run | xargs -0 shellcheck

cluster-up: setup ## start the private SLURM of this machine
	@proxygrm cluster up

cluster-down: ## stop it
	@proxygrm cluster down

submit-distill: ## the teacher writes critiques
	@$(submit) distill

submit-sft: ## SFT of the proxy and of the reward model
	@$(submit) proxy_sft grm_sft

submit-rl: ## GRPO with the proxy reward; NODES=4
	@$(submit) grm_rl

submit-eval: ## evaluation
	@$(submit) evaluate

submit-chain: ## everything that is missing, in one go
	@$(submit)

ablation: ## train and evaluate every cell of SPEC as job arrays; `proxygrm ablate` lists the specs
	@proxygrm ablate $(SPEC) --profile $(PROFILE) --run $(RUN) $(nodes) $(ARGS)

doctor: ## does the profile fit this cluster, and what to do where not
	@proxygrm doctor --profile $(PROFILE) $(ARGS)

plan: ## what a submit would do, and why
	@proxygrm plan --profile $(PROFILE) --run $(RUN) $(nodes) $(ARGS)

status: ## where every stage stands
	@proxygrm status --run $(RUN)

logs: ## the log of a stage; STAGE=grm_rl
	@proxygrm logs --run $(RUN) $(STAGE)

cancel: ## cancel every job of the run
	@proxygrm cancel --run $(RUN)

report: ## one HTML page of a run
	@proxygrm report --run $(RUN)
