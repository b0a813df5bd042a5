"""docs/user/settings.md from the settings themselves."""

from __future__ import annotations

from pydantic.fields import FieldInfo

from runomics.settings import TABLES, Settings, flag_of, type_text, variable_of

HEAD = """\
# Settings

<!-- Generated from src/runomics/settings.py by `make docs`; do not edit. -->

Each setting is a flag of `runomics serve`, a variable of its environment, and a line of `DATA/runomics.toml`; the first of these that is
there wins. A name that is no setting, or a value that is not allowed, stops the start with a message. `runomics.toml` looks like this:

```toml
listen = "0.0.0.0:8080"
host_cpus = 16
default_storage_type = "DYNAMIC"
```
"""


def pages() -> dict[str, str]:
    """The one page."""
    parts = [HEAD]
    for name, field in Settings.model_fields.items():
        parts.append(_section(name, field))
    return {"user/settings.md": "\n".join(parts)}


def _section(name: str, field: FieldInfo) -> str:
    default = "" if field.default_factory else f" · default `{_default(field)}`"
    if name in TABLES:
        return f"## {name}\n\n{field.description}\n\n`[{name}.NAME]` in `runomics.toml` · {type_text(field)}\n"
    return (
        f"## {name}\n\n{field.description}\n\n`{flag_of(name)}` · `{variable_of(name)}` · {type_text(field)}{default}\n"
    )


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return "not set"
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
