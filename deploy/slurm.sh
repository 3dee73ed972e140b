#!/bin/bash
# docpipe on Slurm: the first node of the allocation runs the head and the driver, the others are hosts.
#   sbatch --time 12:00:00 deploy/slurm.sh contracts
# Needs the same .venv on every node (say on the shared home), RAY_AUTH_TOKEN and the API's key in the environment.
#SBATCH --job-name docpipe
#SBATCH --nodes 5
#SBATCH --ntasks-per-node 1
#SBATCH --cpus-per-task 4
#SBATCH --exclusive
#SBATCH --signal B:TERM@700
# 700 s before the end of its time: what is in flight is awaited, for it is paid for.
set -euo pipefail

export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
: "${RAY_AUTH_TOKEN:?make one with: ray get-auth-token --generate}"
bin=$PWD/.venv/bin
head=$(hostname --ip-address | awk '{print $1}')
port=6379

srun --overlap --nodes 1 --ntasks 1 --nodelist "$(hostname)" \
    "$bin/ray" start --head --node-ip-address "$head" --port $port --num-cpus 0 --include-dashboard false --block &
until (: > "/dev/tcp/$head/$port") 2>/dev/null; do sleep 1; done
srun --nodes $((SLURM_JOB_NUM_NODES - 1)) --ntasks-per-node 1 --exclude "$(hostname)" \
    "$bin/ray" start --address "$head:$port" --num-cpus "$SLURM_CPUS_PER_TASK" --block &
hosts() { "$bin/ray" status --address "$head:$port" | grep --count ' node_' || true; }
until [ "$(hosts)" -ge "$SLURM_JOB_NUM_NODES" ]; do sleep 2; done

"$bin/docpipe" run "$1" &
driver=$!
trap 'kill -TERM $driver' TERM
code=0
while :; do  # the signal ends the wait, and the run has yet to end
    wait $driver && code=0 || code=$?
    kill -0 $driver 2>/dev/null || break
done
exit $code  # Slurm ends the rest
