# Every command a person types. `make help` lists them; `proxygrm --help` knows more.
SHELL := /bin/bash
PATH := $(CURDIR)/.venv/bin:$(PATH):$(CURDIR)/.local/debian/usr/bin
export PATH
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH

# Set on make's command line; variables of the shell that happen to have these names do not count.
PROFILE =
RUN =
NODES =
STAGE =
SPEC = aggregation
RECIPE =
ARGS =

# Each is one word for the shell, whatever stands in it; ARGS are words as typed, for the shell and not for make. A line
# break would begin a further command, so it is refused.
# make reads what it exports, once more: not these.
unexport PROFILE RUN NODES STAGE SPEC RECIPE ARGS
define newline


endef
$(foreach name,PROFILE RUN NODES STAGE SPEC RECIPE ARGS,$(if $(findstring $(newline),$(value $(name))),$(error $(name) has a line break in it; it has to be one plain line)))
quoted = '$(subst ','\'',$(value $(1)))'
option = $(if $(value $(2)),$(1) $(call quoted,$(2)))
profile = $(call option,--profile,PROFILE)
run = $(call option,--run,RUN)
nodes = $(call option,--nodes,NODES)
recipe = $(call option,--recipe,RECIPE)
stage = $(if $(value STAGE),$(call quoted,STAGE))
args = $(value ARGS)
# The commands that look at a run have no --profile: the run of a profile is named by its folder.
looked_at = $(or $(run),$(if $(value PROFILE),--run "runs/$$(basename -- $(call quoted,PROFILE) .toml)"))
submit = proxygrm submit $(recipe) $(profile) $(run) $(nodes) $(args)

.DEFAULT_GOAL := help
.PHONY: help setup lock doctor demo test test-fast lint cluster-up cluster-down submit-distill submit-sft submit-rl submit-eval submit-chain ablation replicate plan status logs cancel report ready

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' Makefile
	@echo "  variables: PROFILE=local|a100|h100|PATH  RECIPE=NAME[:PRESET]|FILE.py  RUN=runs/NAME  NODES=N  STAGE=NAME  SPEC=NAME  ARGS='--set grm_rl.learning_rate=1e-6'"

ready:
	@command -v proxygrm > /dev/null || { echo "proxygrm is not installed here yet: make setup" >&2; exit 2; }

setup: ## install the Python environment and SLURM's packages; does nothing when they are installed
	@bash requirements/setup.sh

lock: ## recompile requirements/*.txt from *.in
	@bash requirements/lock.sh

demo: setup ## the whole chain on this machine: private SLURM, tiny model, 8 to 15 minutes; RECIPE=NAME for another's
	@proxygrm demo $(recipe) $(args)

test: setup lint ## style, types and all tests, the shortened demo chain included; ARGS="-k word" for some of them
	@python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(args)
	@$(if $(strip $(value ARGS)),,tests/other_pythons.sh)

test-fast: setup ## tests that need no torch and no cluster: under a minute
	@python -m pytest -n 3 --dist loadfile -m "not slow and not heavy and not cluster and not e2e" tests/unit $(args)

lint: setup ## ruff, mypy, the arrows between rooms, shellcheck
	@ruff check --quiet . && ruff format --check --quiet . && mypy --no-error-summary && { arrows=$$(lint-imports --no-cache) || { echo "$$arrows" >&2; false; }; } && git ls-files -z '*.sh' 'slurm/templates/*' .ci/run | xargs -0 shellcheck

cluster-up: setup ## start this machine's private SLURM
	@proxygrm cluster up

cluster-down: ready ## stop the private SLURM
	@proxygrm cluster down

submit-distill: ready ## the teacher's critiques
	@$(submit) distill

submit-sft: ready ## SFT of the proxy and of the reward model
	@$(submit) proxy_sft grm_sft

submit-rl: ready ## GRPO with the proxy reward; NODES=4
	@$(submit) grm_rl

submit-eval: ready ## evaluation
	@$(submit) evaluate

submit-chain: ready ## every stage that is missing
	@$(submit)

ablation: ready ## train and evaluate every cell of SPEC as job arrays; `proxygrm ablate` lists the specs
	@proxygrm ablate $(call quoted,SPEC) $(recipe) $(profile) $(run) $(nodes) $(args)

replicate: setup ## the paper's ablations at demo size, judged by a proxy that no training has seen, and policies of three seeds; 75 to 90 minutes
	@proxygrm demo --recipe unseen-proxy && proxygrm demo --prepare-only && proxygrm ablate replicate --recipe proxy_grm:demo --run runs/replicate --set evaluate.judge=runs/demo-unseen-proxy/proxy_sft/model --watch $(args)
	@proxygrm demo --recipe policy-rl --prepare-only && proxygrm ablate seeds --recipe policy-rl:demo --run runs/replicate-policy --watch $(args)

doctor: ready ## check the profile against this cluster
	@proxygrm doctor $(profile) $(args)

plan: ready ## what a submit would do, and why
	@proxygrm plan $(recipe) $(profile) $(run) $(nodes) $(args)

status: ready ## state of every stage
	@proxygrm status $(looked_at)

logs: ready ## the log of a stage; STAGE=grm_rl
	@proxygrm logs $(looked_at) $(stage)

cancel: ready ## cancel every job of the run
	@proxygrm cancel $(looked_at)

report: ready ## one HTML page of a run
	@proxygrm report $(looked_at)
