#!/bin/sh
# The password reaches MLflow through the environment: a command line is for all to see.
set -eu
password=$(cat /run/secrets/postgres_password)
export MLFLOW_BACKEND_STORE_URI="postgresql+psycopg2://tidegate:${password}@postgres:5432/mlflow"
exec mlflow server "$@"
