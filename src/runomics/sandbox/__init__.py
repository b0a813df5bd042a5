"""The sandbox of engines: file tree, rights, system calls; and safe opening of paths that sandboxed code named. Standard library only."""
