"""Files with declared jobs, and what is wrong in them: by file, line and the attribute's name."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from sync_defs.declared.attributes import SyncJobAttributes
from sync_defs.declared.job import declared_job
from sync_defs.errors import ConfigurationError
from sync_defs.job import TableSync

FILE: Final = "defs.yaml"
_YAML: Any = yaml  # its stubs leave what it reads unknown
COMPONENT: Final = "sync_defs.SyncJobComponent"


def read_jobs(path: Path) -> list[TableSync]:
    """Return the jobs that a file declares, one in each document of the component's type; others are left out.

    Raises:
        ConfigurationError: naming file, line and attribute, and what is allowed.
    """
    return [_job(path, node) for node in _documents(path)]


def _documents(path: Path) -> Iterator[yaml.MappingNode]:
    try:
        nodes: list[yaml.Node] = [n for n in _YAML.compose_all(path.read_text(encoding="utf-8"), yaml.SafeLoader) if n]
    except yaml.MarkedYAMLError as error:
        raise _no_yaml(path, error) from None
    for node in nodes:
        if isinstance(node, yaml.MappingNode):
            kind = _child(node, "type")
            if isinstance(kind, yaml.ScalarNode) and kind.value == COMPONENT:
                yield node


def _job(path: Path, document: yaml.MappingNode) -> TableSync:
    node = _child(document, "attributes")
    if not isinstance(node, yaml.MappingNode):
        raise ConfigurationError(f"{path}:{document.start_mark.line + 1}: the document has no attributes")
    try:
        plain: Any = _YAML.SafeLoader("").construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise _no_yaml(path, error) from None
    try:
        return declared_job(SyncJobAttributes.model_validate(plain))
    except ValidationError as error:
        # Of a union, each branch that fails is listed: the first is the one that was most likely meant.
        first = error.errors(include_input=False, include_url=False)[0]
        place, name = _place(node, first["loc"])
        raise ConfigurationError(f"{path}:{place}: {name}: {first['msg']}") from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}:{node.start_mark.line + 1}: {error.message}", code=error.code) from None


def _no_yaml(path: Path, error: yaml.MarkedYAMLError) -> ConfigurationError:
    line = error.problem_mark.line + 1 if error.problem_mark else 1
    return ConfigurationError(f"{path}:{line}: the file is no YAML: {error.problem}")


def _place(node: yaml.Node, location: Sequence[object]) -> tuple[int, str]:
    """Return the line of an attribute, as far as it is there, and its name with dots."""
    names: list[str] = []
    line = node.start_mark.line + 1
    for part in location:
        found = _key(node, str(part))
        if found is None:
            if not names:
                names.append(str(part))
            break
        names.append(str(part))
        key, node = found
        line = key.start_mark.line + 1
    return line, ".".join(names)


def _key(node: yaml.Node, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    pairs: list[tuple[yaml.Node, yaml.Node]] = node.value if isinstance(node, yaml.MappingNode) else []
    return next(((key, value) for key, value in pairs if key.value == name), None)


def _child(node: yaml.MappingNode, name: str) -> yaml.Node | None:
    found = _key(node, name)
    return None if found is None else found[1]
