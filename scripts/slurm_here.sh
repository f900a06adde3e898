#!/usr/bin/env bash
# A real SLURM of one node on this machine, for tests: two GPUs that are only claimed (gres over terminal devices), and two
# partitions of which `high` preempts `low`. As root, after
#   apt-get install -y slurmctld slurmd slurm-client munge
# usage: slurm_here.sh start|stop FOLDER      then: export SLURM_CONF=FOLDER/slurm.conf
set -euo pipefail
what=$1; at=$(realpath -m "$2"); host=$(hostname -s); export SLURM_CONF=$at/slurm.conf

ends() { [ ! -e "$at/$1.pid" ] || kill "$(cat "$at/$1.pid")" 2> /dev/null || true; }

if [ "$what" = stop ]; then ends d; ends ctld; ends munged; exit 0; fi

mkdir -p "$at"/{ctld,d,log}
cat > "$SLURM_CONF" <<C
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
ReturnToService=2
SlurmctldPidFile=$at/ctld.pid
SlurmdPidFile=$at/d.pid
SlurmdSpoolDir=$at/d
SlurmUser=root
StateSaveLocation=$at/ctld
SwitchType=switch/none
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmctldLogFile=$at/log/ctld.log
SlurmdLogFile=$at/log/d.log
KillWait=20
SlurmdTimeout=15
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=2000 Gres=gpu:2 State=UNKNOWN
PartitionName=low Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=30 OverSubscribe=NO
PartitionName=high Nodes=$host MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF OverSubscribe=NO
C
echo "NodeName=$host Name=gpu File=/dev/tty[0-1]" > "$at/gres.conf"
if [ ! -s /etc/munge/munge.key ]; then
  dd if=/dev/urandom bs=1 count=1024 of=/etc/munge/munge.key status=none
  chown munge:munge /etc/munge/munge.key; chmod 400 /etc/munge/munge.key
fi
mkdir -p /run/munge; chown munge:munge /run/munge; chmod 755 /run/munge
if ! munge -n < /dev/null > /dev/null 2>&1; then
  rm -f /run/munge/munge.socket.2*
  su munge -s /bin/sh -c "/usr/sbin/munged --force"
  cp /run/munge/munged.pid "$at/munged.pid" 2> /dev/null || true
fi
slurmctld -f "$SLURM_CONF"; slurmd -f "$SLURM_CONF" -N "$host"
for _ in $(seq 30); do [ "$(sinfo -h -o %t | head -1)" != idle ] || exit 0; sleep 1; done
sinfo; exit 1
