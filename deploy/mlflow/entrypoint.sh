#!/bin/sh
# Passwords reach MLflow through files and the environment of its own process: a command line is
# for all to see.
set -eu
umask 077
password=$(cat /run/secrets/postgres_password)
export MLFLOW_BACKEND_STORE_URI="postgresql+psycopg2://tidegate:${password}@postgres:5432/mlflow"

case "${MLFLOW_AUTHENTICATION:-false}" in
  false) ;;
  true)
    cat >/tmp/auth.ini <<INI
[mlflow]
default_permission = READ
database_uri = ${MLFLOW_BACKEND_STORE_URI}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI
    export MLFLOW_AUTH_CONFIG_PATH=/tmp/auth.ini
    MLFLOW_AUTH_ADMIN_PASSWORD=$(cat /run/secrets/mlflow_password)
    MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat /run/secrets/mlflow_session_key)
    export MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
    set -- "$@" --app-name basic-auth
    ;;
  *)
    echo "MLFLOW_AUTHENTICATION is '${MLFLOW_AUTHENTICATION}'; it must be true or false" >&2
    exit 2
    ;;
esac
exec mlflow server "$@"
