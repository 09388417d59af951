#!/bin/sh
# Puts MLflow's store and artifacts back as `backup.sh` saved them: restore.sh backups/DATE.
# What was there since then is gone.
set -eu
cd "$(dirname "$0")/.."
folder=${1:?usage: restore.sh backups/DATE}
for file in store.dump artifacts.tar; do
  [ -s "$folder/$file" ] || { echo "$folder has no $file: it is no backup" >&2; exit 2; }
done
docker compose up --detach --wait postgres
docker compose stop mlflow
docker compose exec -T postgres sh -c '
  export PGUSER=tidegate PGPASSWORD=$(cat /run/secrets/postgres_password)
  dropdb --if-exists --force mlflow && createdb mlflow && pg_restore --dbname=mlflow --exit-on-error
' <"$folder/store.dump"
docker compose run --rm --no-deps -T --entrypoint sh mlflow -c \
  'find /artifacts -mindepth 1 -delete && tar -C /artifacts -xf -' <"$folder/artifacts.tar"
docker compose up --detach --wait mlflow
