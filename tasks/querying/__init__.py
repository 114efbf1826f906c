"""SQL on files: `running` starts a process with limits, in which `engine` reads the files and runs the query.

That process imports nothing that knows the platform, its settings or its secrets.
"""
