#!/usr/bin/env bash
# Each room, compiled with its own flags, finds the public headers of the rooms it uses and its own
# private ones, and no header of another room, public or private. Rooms that do not use LibTorch do
# not find LibTorch.
#
#   tests/scripts/rooms_test.sh SOURCE_DIR BUILD_DIR COMPILER
#
# BUILD_DIR/rooms/table.txt has a line per room, written by CMake: NAME torch=0|1 inside=ROOM ROOM…, the
# room that it sees inside besides itself, if any, and those it sees.
set -uo pipefail
source_dir=$1 build_dir=$2 compiler=$3
table=$build_dir/rooms/table.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0 tried=0
fail() {
  printf 'FAILED: %s\n' "$*"
  failures=$((failures + 1))
}

# The headers of a room as they are included; the command line's directories of a target.
public_headers() { (cd "$source_dir/include" && find "rwkvx/$1" -name '*.h' 2>/dev/null | sort); }
# The room modules has its files in directories of their own below those of cores.
private_headers() {
  local directory=$1 of_modules='/(modules|cuda)/'
  [[ $1 != modules ]] || directory=cores
  (cd "$source_dir/src" && find "$directory" -name '*.h' 2>/dev/null | sort) | case $1 in
    modules) grep -E "$of_modules" ;;
    cores) grep -vE "$of_modules" ;;
    *) cat ;;
  esac
}
folders_of() {
  grep -m 1 "\"command\": .*/$1\.dir/" "$build_dir/compile_commands.json" |
    grep -oE -- '(-I ?|-isystem )[^ ]+' | tr '\n' ' '
}

# Prints which of the headers on standard input are found, by one run of the preprocessor.
found() {
  while read -r header; do
    printf '#if __has_include("%s")\n"%s"\n#endif\n' "$header" "$header"
  done >"$work/ask.cpp"
  "$compiler" -std=c++20 -E -P $flags "$work/ask.cpp" | tr -d '"' | grep . || true
}

# One that must not be found ends a compilation.
refused() {
  printf '#include "%s"\n' "$1" >"$work/probe.cpp"
  if "$compiler" -std=c++20 -fsyntax-only $flags "$work/probe.cpp" >"$work/log" 2>&1; then
    fail "room $room compiles an #include of $1"
  elif ! grep -qE "$1(:|').*(No such file|file not found)" "$work/log"; then
    fail "room $room: #include of $1 fails for another reason: $(head -n 1 "$work/log")"
  fi
  tried=$((tried + 1))
}

mapfile -t rooms < <(cut -d ' ' -f 1 "$table")
((${#rooms[@]} > 1)) || fail "expected a line per room in $table"
rooms+=(cli)
while read -r room torch inside seen; do
  inside=${inside#inside=}
  flags=$(folders_of "$([[ $room == cli ]] && echo rwkvx || echo "rwkvx_$room")")
  if [[ -z $flags ]]; then
    fail "expected a source of room $room in compile_commands.json"
    continue
  fi
  {
    for other in $seen "$room"; do public_headers "$other"; done
    for other in $room $inside; do private_headers "$other"; done
  } | sort >"$work/wanted"
  for other in "${rooms[@]}"; do
    public_headers "$other"
    private_headers "$other"
  done | found | sort >"$work/found"
  while read -r header; do fail "room $room does not find $header"; done < <(comm -23 "$work/wanted" "$work/found")
  while read -r header; do fail "room $room finds $header"; done < <(comm -13 "$work/wanted" "$work/found")
  tried=$((tried + $(wc -l <"$work/wanted")))

  for other in "${rooms[@]}"; do
    if [[ " $seen $room " != *" $other "* ]]; then
      for header in $(public_headers "$other" | head -n 1) $(private_headers "$other" | head -n 1); do
        refused "$header"
      done
    fi
  done
  if [[ $torch == torch=0 ]]; then
    for header in torch/types.h ATen/core/Tensor.h c10/core/Device.h; do refused "$header"; done
  fi
done < <(cat "$table" && echo "cli torch=0 inside= $(sed -n 's/^eval [^ ]* [^ ]* //p' "$table") eval synth convert")

# A path through .. would walk past the views.
if grep -rnE '#include "[^"]*\.\./' "$source_dir/src" "$source_dir/include"; then
  fail "an #include goes through .."
fi
((failures == 0)) || exit 1
echo "${#rooms[@]} rooms, $tried headers: each room finds what it may and nothing else"
