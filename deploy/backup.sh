#!/bin/sh
# Saves MLflow's store and artifacts to a new folder of backups/, while they are in use.
set -eu
cd "$(dirname "$0")/.."
umask 077
folder=backups/$(date -u +%Y-%m-%dT%H-%M-%SZ)
mkdir -p "$folder.part"
# The store first: what it names then is among the artifacts, which are never changed.
docker compose exec -T postgres sh -c \
  'PGPASSWORD=$(cat /run/secrets/postgres_password) exec pg_dump --username=tidegate --format=custom mlflow' \
  >"$folder.part/store.dump"
docker compose exec -T mlflow tar -C /artifacts -cf - . >"$folder.part/artifacts.tar"
mv "$folder.part" "$folder"
echo "$folder"
