#!/usr/bin/env bash
# Launches a sweep into a folder of its own, or goes on with the one that an earlier attempt left.
#
#   launch-or-resume.sh SPACE FOLDER
set -euo pipefail

space=${1:?which search-space file?}
folder=${2:?which folder for its sweep?}

mkdir -p "$folder"
manifest=$(find "$folder" -mindepth 2 -maxdepth 2 -name manifest.json | sort | tail -n 1)
if [ -n "$manifest" ]; then
    sweep=(resume "$(dirname "$manifest")")
else
    sweep=(launch "$space" --out "$folder")
fi

code=0
sft-sweep "${sweep[@]}" --address auto || code=$?
if [ "$code" -eq 3 ]; then # finished, though some trials failed: another attempt would do nothing
    exit 0
fi
exit "$code"
