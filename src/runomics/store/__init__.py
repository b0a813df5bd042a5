"""The store: rows, the statements that read and write them, and the guarded apply. Runs inside the server process.

It decides where a unit of work runs and when its answer may leave; it never decides which row comes next (that is `domain`'s and
`scheduler`'s). docs/dev/store.md explains the room.
"""
