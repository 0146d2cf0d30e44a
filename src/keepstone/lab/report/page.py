"""The templates' surroundings: everything is escaped, and what is not given is an error."""

from __future__ import annotations

from typing import Any


def render(template: str, **given: Any) -> bytes:
    """One page in UTF-8: no script, nothing from elsewhere."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("keepstone.lab.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**given).encode()
