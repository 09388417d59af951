#!/bin/sh
# Generates the Python code of the protos into a folder, or with --check
# compares the committed code with a fresh one.
set -eu
cd "$(dirname "$0")/.."

generate() {
  python -m grpc_tools.protoc --proto_path=protos \
    --python_out="$1" --grpc_python_out="$1" --mypy_out=quiet:"$1" --mypy_grpc_out=quiet:"$1" \
    protos/tidegate/v1/*.proto
  # Only inference.proto has a service.
  for file in "$1"/tidegate/v1/*_pb2_grpc.py*; do
    case "$file" in */inference_pb2_grpc.py*) ;; *) rm "$file" ;; esac
  done
}

if [ "${1:-}" = "--check" ]; then
  fresh=$(mktemp -d)
  trap 'rm -rf "$fresh"' EXIT
  generate "$fresh"
  for file in "$fresh"/tidegate/v1/*; do
    cmp "$file" "protos/tidegate/v1/$(basename "$file")" || {
      echo "protos/tidegate/v1/$(basename "$file") is not what the protos generate: run 'make protos'" >&2
      exit 1
    }
  done
else
  generate "${1:?usage: generate.sh FOLDER | --check}"
fi
