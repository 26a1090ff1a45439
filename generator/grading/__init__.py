"""Grading: the submissions of people one need not trust, each judged once, in any order.

    intake    files, folders, zips and a list of names  ──►  submissions
    run       texts that differ  ── through any `concurrent.futures.Executor` ──►  work
    work      one text under two seeds, by a judge that its process keeps
    journal   what is judged stays judged, whatever ends the run
    report    verdicts, changes and flags  ──►  rows, a table, a page

Executors are the processes of this machine (processes.py) and those of a cluster (cluster.py).
"""
