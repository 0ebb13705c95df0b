"""Deterministic simulation: the shipped control functions and commit protocol in a faulty world, under one seed.

clock       virtual seconds as the product writes times
sched       virtual time; programs are greenlets that switch at every port call
choices     every decision of the world: explored from a seed, recorded by name, replayed
faults      which faults a seed has, and how hard (swarm)
expressions DynamoDB's conditional writes, as the trainer sends them
fakes       ledger, object store and Batch as ports of one program, with faults
sweep_table, others_table  the same of sweeps, and of jobs of others
batch       the model of AWS Batch: queues, arrays, hosts, native retries
attempt     the container: claims, trains, commits, completes
delivery    events on their way to handlers
operators   people: they submit, pause, resume and cancel
sweep_operator  who submits a sweep
others      who submits to our queue past us
programs    the shipped functions under test, and how events reach them
world       all of it together
invariants  what may never happen, and what must have happened in the end
simulation  one seed
many        many seeds, on several processes
shrink      from a failing seed to a short schedule
mutants     planted bugs, each of which must be found
"""
