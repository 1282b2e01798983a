"""The simulator: every interleaving, every fault, in one thread, replayed from a seed.

A verb of the product is a generator that yields what it wants of the world and is sent the answer.
The simulator is one more driver of these generators, beside the sync and the async one. It holds as
many verbs of as many hosts as it likes, and performs one effect of one of them at a time. So it
decides who goes next, and what goes wrong: a host is killed, Ctrl-C is pressed, the disk is full, a
file cannot be read, the database is locked or does not know whether it committed, a living host
looks dead, the clock jumps, a deadline passes, a file is damaged, the power is cut.

What is real: SQLite and its files, the artifacts, the hosts' locks, and all of `registry.verbs`.
What is simulated: the clocks, chance, who goes next, and what a disk forgets in a power cut.

    machine.py     hosts and verbs, stepped one effect at a time
    host.py        a handle on simulated clocks       task.py      a verb under way
    users.py       every public verb, begun           faults.py    what can go wrong, and how
    witness.py     who looks at the world after each effect, and judges it by
    invariants.py  the promises, and by               model.py     the transitions in plain Python
    disk.py        what a power cut leaves            ending.py    nothing lost, nothing leaked
    schedule.py    a run by chance, from a seed       exhaustive.py  all interleavings of a few
    mutants.py     deliberate faults, to be caught    cases.py       who these few are
    test_stories.py  what Hypothesis tells, and shortens where it breaks a promise

The tests run some of it in seconds. For more:

    python -m tests.simulator 4711                    replay a seed, and print its trace
    python -m tests.simulator --from 0 --to 100000    many seeds
    python -m tests.simulator --walk short            all states of small cases, counted; or long
    REGISTRY_SIMULATE=long pytest tests/simulator     the long form of every test here
"""
