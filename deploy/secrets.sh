#!/bin/sh
# Writes the secrets of docker-compose.yml once; those that are there stay as they are.
set -eu
folder=$(dirname "$0")/secrets
umask 077
mkdir -p "$folder"

# keep NAME: writes what it reads as a secret, unless there is one.
keep() {
  [ -e "$folder/$1" ] || cat >"$folder/$1.new"
  [ -e "$folder/$1" ] || mv "$folder/$1.new" "$folder/$1"
  # Containers read it as a user of their own; the folder keeps everybody else out.
  chmod 444 "$folder/$1"
}

# Hexadecimal: stands in a URL as it is. 64 characters: 32 random bytes.
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

digest() { openssl dgst -sha256 -r "$folder/$1" | cut -d' ' -f1; }

for name in postgres_password optuna_password redis_password grafana_password mlflow_password mlflow_session_key \
  checkpoint_key client_token; do
  random | keep "$name"
done

# Redis knows one user by the digest of its password; it sees the series and administers nothing.
keep redis.acl <<ACL
user default on #$(digest redis_password) resetchannels ~tidegate/* -@all +@connection +@read +@write +@scripting +time -@dangerous
ACL

# The server knows tokens by their digests.
keep tokens.toml <<TOML
[[tokens]]
name = "local"
sha256 = "$(digest client_token)"
roles = ["infer", "read"]
TOML

# For the trainer and the server, where MLflow wants to know who asks.
keep mlflow.credentials <<INI
[mlflow]
mlflow_tracking_username = admin
mlflow_tracking_password = $(cat "$folder/mlflow_password")
INI
