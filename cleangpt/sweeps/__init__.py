"""Many trainings, each in a folder of its own.

    settings.py    the keys of hydra.launcher and hydra.sweeper
    jobs.py        a job, what is known of it on the disk, and how it ended
    grid.py        the jobs of a sweep over given values, and their names
    search.py      the trials of a search with optuna
    processes.py   jobs as processes of this machine
    kept.py        a process with torch loaded, from which jobs are forked
    submitted.py   jobs that submitit hands to Slurm, or runs here
    loop.py        start, watch, stop and report them
    table.py       the table that a person watches

Hydra finds launchers and the search in hydra_plugins/cleangpt_sweeps.py, which only passes on to here.
"""
