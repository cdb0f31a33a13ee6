"""Settings of a run: defaults < size < TOML file < `--set key=value`, checked by name.

Keys are dotted, `ensemble.members`, and the same everywhere.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Dotted = dict[str, Any]
Config = TypeVar("Config", bound=BaseModel)


def dotted(settings: Mapping[str, Any], model: type[BaseModel]) -> Dotted:
    """Nested settings as dotted keys, as deep as the sections of `model` go."""
    flat: Dotted = {}
    for key, value in settings.items():
        section = _section_of(model, key)
        if section is not None and isinstance(value, Mapping):
            flat |= {f"{key}.{k}": v for k, v in dotted(value, section).items()}
        else:
            flat[key] = value
    return flat


def known_keys(model: type[BaseModel]) -> list[str]:
    """Every dotted key of a config, in the order of its definition."""
    keys = []
    for name in model.model_fields:
        section = _section_of(model, name)
        if section is None:
            keys.append(name)
        else:
            keys += [f"{name}.{key}" for key in known_keys(section)]
    return keys


def read_toml(path: Path) -> dict[str, Any]:
    """The settings of a `--config` file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not TOML.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--config must name a TOML file; got {path}.")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"--config must be TOML; got {path}: {error}.") from error


def parse_settings(words: Sequence[str]) -> Dotted:
    """Settings of `--set key=value`; values as in TOML, other words are strings."""
    settings: Dotted = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"--set must be key=value; got {word}.")
        try:
            parsed = tomllib.loads(f"value = {text}")
        except tomllib.TOMLDecodeError:
            parsed = {}
        only_value = set(parsed) == {"value"}
        settings[key.strip()] = parsed["value"] if only_value else text
    return settings


def build_config(model: type[Config], settings: Dotted) -> Config:
    """The config with these settings over its defaults.

    Raises:
        ValueError: one line per wrong setting: key, what must hold, the value found.
    """
    known = known_keys(model)
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise ValueError("\n".join(_unknown("key", key, known) for key in unknown))
    try:
        return model.model_validate(_nested(settings))
    except ValidationError as error:
        lines = [_sentence(problem) for problem in error.errors(include_url=False)]
        raise ValueError("\n".join(lines)) from error


def choose(kind: str, name: str, known: Sequence[str]) -> str:
    """Return `name` if it is known.

    Raises:
        ValueError: if not; names the known ones and the closest.
    """
    if name not in known:
        raise ValueError(_unknown(kind, name, known))
    return name


def _unknown(kind: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"unknown {kind} {name}.{hint} Known: {', '.join(known)}."


def _sentence(problem: ErrorDetails) -> str:
    """What must hold; of a validator's own sentence, which names the value, no more."""
    key = f"{'.'.join(map(str, problem['loc']))}: " if problem["loc"] else ""
    found = problem["input"]
    if problem["type"] == "value_error":
        return key + problem["msg"].removeprefix("Value error, ").rstrip(".") + "."
    if problem["type"] in {"tuple_type", "list_type"}:
        return f"{key}must be a list, as [{found}]; got {found!r}."
    must = problem["msg"].replace("Input should", "must", 1)
    return f"{key}{must}; got {found!r}."


def _nested(settings: Dotted) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, leaf = key.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = value
    return tree


def _section_of(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    field = model.model_fields.get(key)
    annotation = field.annotation if field else None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None
