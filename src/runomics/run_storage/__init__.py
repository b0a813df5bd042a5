"""Where runs keep their files: one volume per run, measured always, limited when STATIC. Start at `choice.open_storage`."""

from runomics.run_storage.choice import ManagedStorage, StorageSettings, open_storage
from runomics.run_storage.linux import prepare_shared_mount, release_shared_mount
from runomics.run_storage.probe import probe

__all__ = ["ManagedStorage", "StorageSettings", "open_storage", "prepare_shared_mount", "probe", "release_shared_mount"]
