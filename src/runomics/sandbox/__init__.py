"""Builds and enters the sandbox of engines: file tree, rights, system calls; and opens paths that sandboxed code named. Standard library only."""
