# Sourced by `generate`, `check` and `runner`: where tools go, and what has to be there.
# shellcheck shell=bash
tools=${PHASEGATE_CI_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/phasegate-ci}
mkdir -p "$tools/go/bin"
tools=$(realpath "$tools")

# needs COMMAND=PACKAGE...: ends with 69 unless all commands are there.
needs() {
  local missing=() need
  for need in "$@"; do
    command -v "${need%%=*}" >/dev/null || missing+=("${need#*=}")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "missing: ${missing[*]}" >&2
    exit 69
  fi
}

# install_go MODULE@VERSION...: each as a program in $tools/go/bin, unless that version is there already.
install_go() {
  local package name
  for package in "$@"; do
    name=$(basename "${package%@*}")
    if [ "$(cat "$tools/go/bin/.$name" 2>/dev/null)" != "$package $(go env GOVERSION)" ]; then
      GOBIN=$tools/go/bin go install "$package"
      echo "$package $(go env GOVERSION)" >"$tools/go/bin/.$name"
    fi
  done
}
