"""Workflows: jobs with keys that wait for each other's ends, made, shown, cancelled and retried as one thing.

Their jobs are jobs like any other. What a workflow is, is read from the rows of its jobs; a row of its own keeps what
was asked for, and, once it has ended, what they said then.
"""
