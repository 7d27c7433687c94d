#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# in_shards.sh COUNT PROGRAM [ARGUMENT...]: a GoogleTest program in so many parts at once, for tests that mostly wait. Prints what
# each part says in the end, and all that a part says that failed.
set -uo pipefail
count=$1 program=$2
shift 2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for ((i = 0; i < count; ++i)); do
  GTEST_TOTAL_SHARDS=$count GTEST_SHARD_INDEX=$i "$program" "$@" >"$folder/$i" 2>&1 &
  parts[i]=$!
done
failed=0
for ((i = 0; i < count; ++i)); do
  if wait "${parts[i]}"; then
    grep -E '^\[ +(PASSED|FAILED) +\]' "$folder/$i"
  else
    cat "$folder/$i"
    failed=1
  fi
done
exit "$failed"
