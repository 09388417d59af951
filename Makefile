# Every target makes the environment it needs; nothing has to be installed by hand.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTO_VENV := .venv-protos
PROTO_FILES := $(wildcard protos/tidegate/v1/*.proto)

export MLFLOW_DISABLE_TELEMETRY := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install demo test test-slow soak test-compose test-all bench-export bench-serve bench-serve-workers \
	bench-train bench-train-cuda lint format protos protos-check models golden secrets certs up down backup restore licences clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "tidegate needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/python examples/quickstart.py $(ARGS)

test: install
	$(BIN)/pytest $(ARGS)

test-slow: install
	$(BIN)/pytest -m "slow and not gpu and not compose" $(ARGS)

# Ten minutes of streams that come and go at 70 % load.
soak: install
	TIDEGATE_SOAK_SECONDS=600 $(BIN)/pytest tests/serve/test_soak.py -m slow -s $(ARGS)

# With a Docker engine: builds the images and starts the deployment of docker-compose.yml. Times and sizes are shown.
test-compose: install
	$(BIN)/pytest -m compose -s $(ARGS)

test-all: install
	$(BIN)/pytest -m "" $(ARGS)

bench-export: install
	$(BIN)/python bench/export_cost.py $(ARGS)

bench-serve: install
	$(BIN)/python bench/serve_speed.py $(ARGS)

bench-serve-workers: install
	$(BIN)/python bench/serve_workers.py $(ARGS)

bench-train: install
	$(BIN)/python bench/train_recurrent.py $(ARGS)

# On a CUDA device, with the build of torch for it.
bench-train-cuda: install
	$(BIN)/python bench/train_recurrent_cuda.py $(ARGS)

lint: install protos-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	@if docker compose version >/dev/null 2>&1; then \
		for profile in $$(docker compose config --profiles) '*'; do \
			docker compose --profile "$$profile" config --quiet || exit 1; done; \
	else echo "no docker compose: docker-compose.yml was read by its schema alone"; fi
	$(BIN)/hadolint serve/Dockerfile train/Dockerfile deploy/mlflow/Dockerfile

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The generator has an environment of its own: code from this version runs on
# protobuf 6.31 and newer, while the generator itself needs protobuf below 7.
$(PROTO_VENV)/.installed: protos/requirements.txt
	$(PYTHON) -m venv $(PROTO_VENV)
	$(PROTO_VENV)/bin/pip install --quiet --requirement protos/requirements.txt
	touch $@

protos: $(PROTO_VENV)/.installed
	PATH="$(CURDIR)/$(PROTO_VENV)/bin:$$PATH" protos/generate.sh protos

protos-check: $(PROTO_VENV)/.installed
	PATH="$(CURDIR)/$(PROTO_VENV)/bin:$$PATH" protos/generate.sh --check

models: install
	$(BIN)/python models/build.py

# New files only: what is there was written once and must load for ever.
golden: install
	$(BIN)/python tests/golden/make.py

# Random, and written only once.
secrets:
	deploy/secrets.sh

# An authority for this machine, and what it signs for the gateway and a client; written only once.
certs:
	deploy/certs.sh

# REPLICAS=3 for three servers behind the gateway; COMPOSE_PROFILES=gpu for one on a GPU in their
# place, COMPOSE_PROFILES=dashboard for Grafana too, both with a comma between.
REPLICAS := 1
SERVER := $(if $(findstring gpu,$(COMPOSE_PROFILES)),serve-gpu,serve)
SERVICES := postgres redis mlflow $(SERVER) gateway prometheus \
	$(if $(findstring dashboard,$(COMPOSE_PROFILES)),grafana)
up: secrets certs
	docker compose up --build --detach --wait --scale $(SERVER)=$(REPLICAS) $(SERVICES)

# Volumes stay: `make up` goes on where this stopped.
down:
	docker compose --profile '*' down

# Of MLflow's store and artifacts, into a new folder of backups/.
backup:
	deploy/backup.sh

# BACKUP=backups/DATE: MLflow is as it was then.
restore:
	deploy/restore.sh $(BACKUP)

# The packages in each of our images, with their licences.
licences:
	@for image in tidegate-serve tidegate-mlflow tidegate-train; do \
		echo "# $$image"; docker run --rm --network none --entrypoint cat $$image /opt/licences.csv; done

clean:
	rm -rf $(VENV) $(PROTO_VENV) .tidegate .pytest_cache .mypy_cache .ruff_cache .hypothesis
