#!/bin/sh
# Writes the secrets of docker-compose.yml once; those that are there stay as they are.
set -eu
folder=$(dirname "$0")/secrets
umask 077
mkdir -p "$folder"
for name in postgres_password checkpoint_key; do
  file=$folder/$name
  if [ ! -e "$file" ]; then
    # Hexadecimal: stands in a URL as it is. 64 characters: 32 random bytes.
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$file"
    # Containers read it as a user of their own; the folder keeps everybody else out.
    chmod 444 "$file"
  fi
done
