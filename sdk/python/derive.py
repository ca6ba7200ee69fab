"""Writes what follows from other files of this SDK.

    python derive.py SOURCES MADE

- The blocking calls, `_calls/`, from the asynchronous ones, `aio/_calls/`: the same words without
  `async` and `await`, so that they cannot differ.
- The packages `v1` and `rehearsal.v1`, which offer the names of all their generated modules.

SOURCES is the package `phasegate` that is written by hand, MADE the one that is generated; protoc
has written its part of it already.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "v1": "The messages of Phasegate's API, from `phasegate/v1/*.proto`.",
    "rehearsal": "What only servers have whose clock moves when it is told to.",
    "rehearsal/v1": "The messages of a rehearsal, from `phasegate/rehearsal/v1/*.proto`.",
}

BLOCKING = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bphasegate\.aio\b", "phasegate"),
]


def main() -> None:
    sources, made = Path(sys.argv[1]), Path(sys.argv[2])
    written = []
    for name, doc in PACKAGES.items():
        path = made / name / "__init__.py"
        path.write_text(package(made / name, doc))
        written.append(path)
    (made / "_calls").mkdir()
    for source in sorted((sources / "aio/_calls").glob("*.py")):
        path = made / "_calls" / source.name
        path.write_text(blocking(source))
        written.append(path)
    settings = ["--quiet", "--config", str(sources.parents[1] / "pyproject.toml")]
    subprocess.run(
        ["ruff", "check", "--fix-only", "--select", "I", *settings, *written], check=True
    )
    subprocess.run(["ruff", "format", *settings, *written], check=True)


def package(folder: Path, doc: str) -> str:
    """The package's `__init__.py`. It says every name, because only such are exported."""
    lines, offered = [], []
    for stub in sorted(folder.glob("*_pb2.pyi")):
        names = sorted(public_names(stub))
        lines.append(f"from .{stub.stem} import {', '.join(names)}")
        offered += names
    if offered:
        lines.append(f"\n__all__ = {sorted(offered)!r}")
    return "\n".join(
        [f'"""{doc}"""', "", "# Written by `generate`. Do not edit it.", "", *lines, ""]
    )


def public_names(stub: Path) -> set[str]:
    """Messages, enums, and the values of enums."""
    names = set()
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not re.match("_|Global___|DESCRIPTOR$", name)}


def blocking(source: Path) -> str:
    """A module of asynchronous calls, as blocking ones."""
    text = source.read_text()
    for pattern, replacement in BLOCKING:
        text = re.sub(pattern, replacement, text)
    left = re.search(r"\b(async|await|asyncio|aio)\b", text)
    if left:
        raise SystemExit(f"{source}: there is no blocking word for {left.group()!r}")
    end = text.index('"""', 3) + 3
    origin = f"# Written by `generate` from `aio/_calls/{source.name}`. Do not edit it."
    return f"{text[:end]}\n\n{origin}\n{text[end:]}"


if __name__ == "__main__":
    main()
