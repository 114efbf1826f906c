"""Schedules: when jobs are made by themselves, which of their due times make one, and what became of each.

Every verb takes a connection, and is one transaction of its caller's on `Database.begin()`.
"""
