#!/bin/bash

#BSUB -W 120
#BSUB -J parsl.gpu.block-0.TIME
#BSUB -o /scratch/run/parsl/000/submit_scripts/parsl.gpu.block-0.TIME.submit.stdout
#BSUB -e /scratch/run/parsl/000/submit_scripts/parsl.gpu.block-0.TIME.submit.stderr
#BSUB -alloc_flags "nvme spectral"
#BSUB -P m1234
#BSUB -nnodes 4


module load python
module load spectral
export PERSIST_DIR=/mnt/bb/$USER PFS_DIR='/gpfs/alpine/m1234/my run'
trap spectral_wait.py EXIT
export PYTHONPATH=CHECKOUT"${PYTHONPATH:+:$PYTHONPATH}"
export OMP_NUM_THREADS=1

export JOBNAME="parsl.gpu.block-0.TIME"

set -e
WORKERCOUNT=4
SCRIPT_DIR="/scratch/run/parsl/000/submit_scripts"
[[ -d $SCRIPT_DIR ]] || SCRIPT_DIR=""

cat << JSRUN_EOF > ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$JOBNAME.sh
PYTHON -m parsl.executors.high_throughput.process_worker_pool  --max_workers_per_node=6 -a 127.0.0.1 -p 0 -c 0.01 -m None --poll 10 --port=PORT --cert_dir /scratch/run/parsl/000/gpu/certificates --logdir=/scratch/run/parsl/000/gpu --logconf=None --block_id=0 --hb_period=10  --hb_threshold=100 --drain_period=6600 --cpu-affinity none  --mpi-launcher=mpiexec --available-accelerators 0 1 2 3 4 5
JSRUN_EOF
chmod a+x ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$JOBNAME.sh

jsrun -n 4 -r 1 -a 1 -c 42 -g 6 -b none /bin/bash ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$JOBNAME.sh &
wait

[[ "1" == "1" ]] && echo "Done"

