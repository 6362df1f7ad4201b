# shellcheck shell=bash
# Read by the other scripts: where the project is, and how they speak. Defines root, say, note, die.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
script=${0##*/}

if [[ -t 2 && ${TERM:-dumb} != dumb && -z ${NO_COLOR:-} ]]; then
  bold=$'\033[1m' red=$'\033[31m' plain=$'\033[0m'
else
  bold='' red='' plain=''
fi

# A stage that begins; a detail of it; the end.
say() { printf '%s%s: %s%s\n' "$bold" "$script" "$*" "$plain" >&2; }
note() { printf '  %s\n' "$*" >&2; }
die() {
  local status=$1
  shift
  printf '%s%s: error: %s%s\n' "$red" "$script" "$*" "$plain" >&2
  exit "$status"
}

# The comment at the top of the calling script, as its --help.
usage() { sed -n '2,/^[^#]/{/^#/!d;s/^# \{0,1\}//;p}' "$0"; }

# True where version $1 is at least $2.
at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# Sets cmake and ctest to programs of at least version 3.25; false where there are none.
find_cmake() {
  local directory
  for directory in '' "$root/.venv/bin/"; do
    local found=${directory}cmake
    command -v "$found" >/dev/null || continue
    if at_least "$("$found" --version | sed -n 's/^cmake version //p')" 3.25; then
      # shellcheck disable=SC2034  # used by the scripts that read this
      cmake=$found ctest=${directory}ctest
      return 0
    fi
  done
  return 1
}
