"""Generate the reference of the configuration file: its JSON Schema and its tables.

Run this script after a change of `agentkit/config/schema.py`; a test compares the result.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
SCHEMA = REFERENCE / "llm.schema.json"
PAGE = REFERENCE / "configuration.md"

_TABLE = re.compile(r"(<!-- fields of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_HEAD = "| field | type | default | meaning |\n|---|---|---|---|\n"
_LIMITS = {"minimum": "from {}", "exclusiveMinimum": "above {}"}


def schema_text() -> str:
    """The JSON Schema as published."""
    from agentkit.config.schema import json_schema

    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def page_text(page: str) -> str:
    """`page` with its tables generated again."""
    schema = json.loads(schema_text())

    def table(found: re.Match[str]) -> str:
        described = schema if found[2] == "File" else schema["$defs"][found[2]]
        rows = "".join(_row(name, each) for name, each in described["properties"].items())
        return f"{found[1]}\n{_HEAD}{rows}\n{found[3]}"

    return _TABLE.sub(table, page)


def _row(name: str, field: dict[str, Any]) -> str:
    meaning = field["description"].replace("\n", " ").replace("|", "\\|")
    default = f"`{json.dumps(field['default'])}`" if "default" in field else "required"
    return f"| `{name}` | {_kind(field)} | {default} | {meaning} |\n"


def _kind(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(map(_kind, field["anyOf"])))
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2].lower()
    if "enum" in field:
        return ", ".join(f"`{each}`" for each in field["enum"])
    kind: str = field["type"]
    if kind == "array":
        item, _, bounds = _kind(field["items"]).partition(" ")
        return f"list of {item.removesuffix('s')}s {bounds}".rstrip()
    if kind == "object":
        values = field["additionalProperties"]
        return "mapping" if values is True else f"mapping of name to {_kind(values)}"
    limits = [words.format(field[key]) for key, words in _LIMITS.items() if key in field]
    return " ".join([kind, *limits])


def main() -> None:
    """Rewrite both files."""
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    PAGE.write_text(page_text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(REFERENCE.parents[1]))
    main()
