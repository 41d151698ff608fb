#!/usr/bin/env bash
# Runs one sweep on the nodes of one Slurm job; put back into the queue, the job goes on with it.
#
#   sbatch cluster/slurm/launch.sh search_spaces/lowdata.yaml
#
# Submit it from a folder that every node sees, with the environment active that holds sft-sweep.
# Options before the script win over those below: sbatch --nodes 8 --gpus-per-node 4 cluster/...
#SBATCH --job-name=sft-sweep
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=sft-sweep-%j.log
set -euo pipefail

space=${1:?which search-space file? sbatch cluster/slurm/launch.sh SPACE}
saving_s=${SFT_SWEEP_SAVING_S:-90} # of the 120 s that --signal leaves
job=${SLURM_JOB_ID:?not in a Slurm job; start this with sbatch}
out=$PWD/runs/slurm-$job           # a requeued job keeps its id, and so finds its sweep
token=$out/.ray-token
driver=$out/.driver-pid
mkdir -p "$out"
rm -f "$token" "$driver"
trap 'rm -f "$token" "$driver"' EXIT

# Whoever reads the token can run code as this user: it is new for every run, and no one else's.
(
    umask 077
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$token"
)
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token
export RAY_USAGE_STATS_ENABLED=0
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=${RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT:-300}

manifest=$(find "$out" -mindepth 2 -maxdepth 2 -name manifest.json | sort | tail -n 1)
if [ -n "$manifest" ]; then
    sweep=(sft-sweep resume "$(dirname "$manifest")")
else
    sweep=(sft-sweep launch "$space" --out "$out")
fi

# Slurm signals this shell alone. The signal goes on to the sweep alone, which saves its state: ray
# symmetric-run has no handler for it and would take the cluster down first.
ending=
trap 'ending=yes; [ ! -s "$driver" ] || kill -TERM "$(<"$driver")" || true' TERM

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST") # the first is where this runs
# shellcheck disable=SC2016 # expanded by the inner shell
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --cpu-bind=none \
    ray symmetric-run --address "${nodes[0]}:6379" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    bash -c 'echo "$$" >"$1" && shift && exec "$@"' driver "$driver" \
    "${sweep[@]}" --address auto &
step=$!

code=0
wait "$step" || code=$?
if [ -n "$ending" ]; then # it was the signal that ended that wait
    timeout "$saving_s" tail --pid="$step" -f /dev/null || kill "$step" || true
    code=0
    wait "$step" || code=$?
    # Not after scancel, which sends the same signal, nor after preemption, where Slurm does it.
    if [ "$code" -ne 0 ] && [ "$code" -ne 3 ] &&
        [[ $(scontrol show job "$job") == *JobState=RUNNING* ]]; then
        echo "The time is over; back into the queue, to go on from $out"
        scontrol requeue "$job"
    fi
fi
exit "$code"
