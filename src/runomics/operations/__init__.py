"""One typed function per API operation, one file per AWS resource.

An operation is `operation(tx, caller, request) -> answer`: synchronous, one transaction, no file, clock or network. Requests come
decoded and validated by the service model; answers are dicts of wire names without nulls. Operations make rows and record wishes;
only the scheduler moves runs.
"""
