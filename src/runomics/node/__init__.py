"""What runs beside a task, on this host or on a cluster's node: the task launcher, the supervisor, containers and cgroups.

Standard library only, Python 3.9 or newer, and nothing of the rest of the package: the folder is also packed into one zip file
(`python -S -E -I node.pyz`) that outlives the server's version and travels to other machines.
"""
