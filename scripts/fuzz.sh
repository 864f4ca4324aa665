#!/bin/bash
# Runs libFuzzer programs one after the other on their corpora; new inputs go into the build folder.
# usage: fuzz.sh FOLDER-OF-PROGRAMS SECONDS [TARGET …]      (default: every target)
set -u

programs=$1
seconds=$2
shift 2
[ $# -gt 0 ] || set -- $(cd "$programs" && ls | sed -n 's/_target$//p')
root=$(cd "$(dirname "$0")/.." && pwd)
failed=()
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1  # what is undefined is a crash, not a line in the log
for target in "$@"; do
  found=$programs/corpus/$target
  mkdir -p "$found"
  log=$programs/$target.log
  # Leaks are not looked for: oneDNN and OpenMP keep some memory to the end.
  if nice -n 19 "$programs/${target}_target" "$found" "$root/tests/fuzz/corpus/$target" -max_total_time="$seconds" \
    -timeout=20 -rss_limit_mb=4096 -malloc_limit_mb=2048 -detect_leaks=0 -max_len=20000 \
    -artifact_prefix="$programs/$target-" >"$log" 2>&1; then
    echo "$target: $(grep -o 'Done [0-9]* runs in [0-9]* second(s)' "$log" | tail -1)"
  else
    failed+=("$target")
    echo "$target: FAILED ($(grep -m1 -o 'SUMMARY: .*' "$log")); see $log"
  fi
done
[ ${#failed[@]} -eq 0 ] || { echo "fuzz: ${#failed[@]} of $# targets failed: ${failed[*]}" >&2; exit 1; }
