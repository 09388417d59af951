#!/bin/sh
# The database of Optuna's studies, whose user sees nothing else. PostgreSQL's image runs it once,
# with the first start on an empty volume.
set -eu
PGPASSWORD=$(cat /run/secrets/postgres_password)
export PGPASSWORD
psql --username=tidegate --dbname=mlflow --set=ON_ERROR_STOP=1 --quiet \
  --set=password="$(cat /run/secrets/optuna_password)" <<'SQL'
CREATE ROLE optuna LOGIN PASSWORD :'password';
CREATE DATABASE optuna OWNER optuna;
REVOKE CONNECT ON DATABASE mlflow FROM PUBLIC;
SQL
