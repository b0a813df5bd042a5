"""Sizes and counts that a request or an archive may not exceed. Values from settings; read by operations and the scheduler."""

from __future__ import annotations

from dataclasses import dataclass, field

from runomics.domain.packaging import ArchiveLimits


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit an account meets. Units in the names. Of these an operator sets the numbers of things kept.

    Source: guide, fixed-quotas (archive, repository, README, template, tags, versions, run groups, run caches); general reference,
    quotas (shares, configurations); model (template entries); guide, troubleshooting (parameters).
    """

    definition_zip_bytes: int = 4_400_000
    definition_uri_bytes: int = 100_000_000
    parameters_bytes: int = 256 * 1024
    template_entries: int = 2000
    template_bytes: int = 400_000
    readme_bytes: int = 500 * 1024
    registry_map_bytes: int = 1024 * 1024
    tags: int = 50
    stored_runs: int = 1_000_000
    workflows: int = 10_000
    versions_per_workflow: int = 1000
    shares_per_workflow: int = 100
    run_groups: int = 1000
    run_caches: int = 1000
    configurations: int = 10
    archive: ArchiveLimits = field(default_factory=ArchiveLimits)
    repository: ArchiveLimits = field(
        default_factory=lambda: ArchiveLimits(unpacked_bytes=1 << 30, file_bytes=100 << 20)
    )
