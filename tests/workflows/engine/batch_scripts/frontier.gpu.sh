#!/bin/bash

#SBATCH --job-name=parsl.gpu.block-0.TIME
#SBATCH --output=/scratch/run/parsl/000/submit_scripts/parsl.gpu.block-0.TIME.stdout
#SBATCH --error=/scratch/run/parsl/000/submit_scripts/parsl.gpu.block-0.TIME.stderr
#SBATCH --nodes=4
#SBATCH --time=120
#SBATCH --ntasks-per-node=1

#SBATCH --exclusive
#SBATCH --partition=batch
#SBATCH --account=m1234
#SBATCH --constraint=nvme
#SBATCH --gpus-per-node=8


module load python
export PYTHONPATH=CHECKOUT"${PYTHONPATH:+:$PYTHONPATH}"
export OMP_NUM_THREADS=1


export JOBNAME="parsl.gpu.block-0.TIME"

set -e
export CORES=$SLURM_CPUS_ON_NODE
export NODES=$SLURM_JOB_NUM_NODES

[[ "1" == "1" ]] && echo "Found cores : $CORES"
[[ "1" == "1" ]] && echo "Found nodes : $NODES"
WORKERCOUNT=4
SCRIPT_DIR="/scratch/run/parsl/000/submit_scripts"
[[ -d $SCRIPT_DIR ]] || SCRIPT_DIR=""

cat << SLURM_EOF > ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$SLURM_JOB_NAME.sh
PYTHON -m parsl.executors.high_throughput.process_worker_pool  --max_workers_per_node=8 -a 127.0.0.1 -p 0 -c 0.01 -m None --poll 10 --port=PORT --cert_dir /scratch/run/parsl/000/gpu/certificates --logdir=/scratch/run/parsl/000/gpu --logconf=None --block_id=0 --hb_period=10  --hb_threshold=100 --drain_period=6600 --cpu-affinity none  --mpi-launcher=mpiexec --available-accelerators 0 1 2 3 4 5 6 7
SLURM_EOF
chmod a+x ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$SLURM_JOB_NAME.sh

srun --ntasks 4 -l --cpu-bind=none -c 56 bash ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$SLURM_JOB_NAME.sh

[[ "1" == "1" ]] && echo "Done"

