# Sourced by the scripts beside it, which have changed into this folder: what they stand on. What is installed
# once for all checkouts goes below PHASEGATE_CI_TOOLS (default: phasegate-ci in the user's cache), the
# packages of package-lock.json into node_modules. Nothing here writes to stdout.
missing=()
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
command -v flock >/dev/null || missing+=(util-linux)
if [ ${#missing[@]} -gt 0 ]; then
  echo "missing: apt-get install ${missing[*]}" >&2
  exit 69
fi

tools=${PHASEGATE_CI_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/phasegate-ci}
mkdir -p "$tools/sdk-typescript"
tools=$(realpath "$tools")

# Installed once for each lock file; two scripts that start together do not install over each other.
(
  flock 9
  if ! cmp --silent package-lock.json node_modules/.installed; then
    npm ci --silent --no-fund --no-audit >&2
    cp package-lock.json node_modules/.installed
  fi
) 9>"$tools/sdk-typescript/lock"
export PATH=$PWD/node_modules/.bin:$PATH
