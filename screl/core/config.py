"""Read a script's options, and turn bad input into one line on stderr.

Each script's options are a frozen dataclass, the only place for their defaults. The YAML file of
``--config`` overrides the defaults, and the command line overrides both.
"""

import argparse
import dataclasses
import difflib
import errno
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser

from screl.core.io import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ConfigType = TypeVar("ConfigType")

NULLS: tuple[Any, ...] = (None, "", "~", "null", "Null", "NULL")  # in YAML


def option(help: str, default: Any = dataclasses.MISSING, positional: bool = False) -> Any:
    """Return a dataclass field with its help text; without a default the option is required."""
    return dataclasses.field(default=default, metadata={"help": help, "positional": positional})


def parse_config(
    config_class: type[ConfigType], argv: Sequence[str] | None = None, doc: str | None = None,
    prog: str | None = None, instead: type | None = None,
) -> ConfigType:  # fmt: skip
    """Return ``config_class`` from defaults < ``--config`` YAML < command line.

    ``prog`` is the script's name in ``--help`` and errors; None uses its file name. ``instead``
    holds options that the script takes in place of these; ``--help`` lists them too.
    Raises UserError for a bad YAML file, OSError if it cannot be read; exits with status 2 for a
    bad command line.
    """
    fields: Any = _fields(config_class)
    kinds = typing.get_type_hints(config_class)
    parser = _make_parser(fields, kinds, doc, prog)
    others = dataclasses.fields(instead) if instead else ()
    for field in (field for field in others if field.name not in kinds):
        text = f"in place of all other options: {field.metadata['help']}"
        parser.add_argument(f"--{field.name}", help=text, default=argparse.SUPPRESS)
    words = _spell_out_flags(sys.argv[1:] if argv is None else argv, kinds)
    try:
        given = vars(parser.parse_args(words))
        path = given.pop("config", None)
        values = (_read_yaml(path, parser, kinds) if path else {}) | given
        required = [field.name for field in fields if field.default is dataclasses.MISSING]
        if missing := [name for name in required if name not in values]:
            parser.error(f"required: {', '.join(missing)}")
    except argparse.ArgumentError as error:
        parser.exit(2, f"error: {_tidy(error)}; see {parser.prog} --help\n")
    return config_class(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def run_main(main: Callable[[], None]) -> None:
    """Run a script's ``main``; report bad input in one line on stderr and exit with status 1."""
    try:
        main()
    except UserError as error:
        sys.exit(1 if _another_process_reports() else "error: " + " ".join(str(error).split("\n")))
    except BrokenPipeError:  # "| head" has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
        sys.exit(1)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "finished work is kept; make room and run the same command again"
        elif error.filename:
            hint = "check the path and its permissions"
        else:
            raise
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror}; {hint}")
    except KeyboardInterrupt as error:
        default = "interrupted; run the same command again to continue"
        message = str(error.args[0]) if error.args else default
        if os.environ.get("LOCAL_RANK", "0") == "0" and message:
            sys.stderr.write(f"{message}\n")
        sys.exit(130)


def say(line: str) -> None:
    """Print a line to stderr."""
    print(line, file=sys.stderr)


def exit_with_usage(message: str) -> NoReturn:
    """Print one line about a bad command line to stderr and exit with status 2."""
    sys.stderr.write(f"error: {message}\n")
    sys.exit(2)


def show_config(config: "DataclassInstance") -> str:
    """Return the resolved config as YAML, in the order of its fields."""
    return yaml.safe_dump(plain_config(config), sort_keys=False, allow_unicode=True).strip()


def plain_config(config: "DataclassInstance") -> dict[str, Any]:
    """Return the config's fields as YAML and JSON types: paths as text, tuples as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return {field.name: plain(getattr(config, field.name)) for field in _fields(type(config))}


def _fields(config_class: type) -> list[dataclasses.Field[Any]]:
    """Return the options of a script: its own, then those that it shares with other scripts."""
    bases = filter(dataclasses.is_dataclass, config_class.__bases__)
    shared = [field for base in bases for field in _fields(base)]
    names = {field.name for field in shared}
    every = dataclasses.fields(config_class)
    return [field for field in every if field.name not in names] + shared


def _make_parser(
    fields: Sequence[dataclasses.Field[Any]], kinds: dict[str, Any], doc: str | None,
    prog: str | None,
) -> ArgumentParser:  # fmt: skip
    """Return a parser that leaves options out of its result unless they are given."""
    parser = ArgumentParser(
        prog=prog, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False, exit_on_error=False,
    )  # fmt: skip
    settings: dict[str, Any] = {"metavar": "FILE.yaml", "default": argparse.SUPPRESS}
    text = "options that differ from the defaults; the command line overrides them"
    parser.add_argument("--config", type=Path, help=text, **settings)
    for field in fields:
        kind, name = kinds[field.name], f"--{field.name}"
        settings = {"help": _help(field), "default": argparse.SUPPRESS}
        if field.metadata["positional"]:  # not required here: the YAML file may set it
            name, settings["nargs"] = field.name, "*" if get_origin(kind) is tuple else "?"
        elif get_origin(kind) is tuple:
            settings["nargs"] = "*" if field.default == () else "+"
        elif kind is bool:
            settings["metavar"] = "[true|false]"
        if get_origin(kind) in (tuple, typing.Union, types.UnionType):  # X | None, tuple[X, ...]
            kind = next(part for part in get_args(kind) if part is not types.NoneType)
        parser.add_argument(name, type=_reader(kind), **settings)
    return parser


def _reader(kind: Any) -> Any:
    """Return what reads a value of ``kind``: for numbers and flags Python's own rules.

    The library reads them by those of YAML 1.1, where ``3:2`` is 182 and ``yes`` is true.
    """
    if kind not in (int, float, bool):
        return kind

    def read(value: object) -> Any:
        try:
            if kind is bool:
                return {"true": True, "false": False}[str(value).lower()]
            return kind(value)
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"Expected {kind.__name__}. Got value: {value}") from None

    read.__name__ = kind.__name__  # for argparse's own message
    return read


def _help(field: dataclasses.Field[Any]) -> str:
    text = field.metadata["help"]
    if field.default is dataclasses.MISSING:
        text += " (required)"
    elif field.default not in (None, ()):
        text += f" (default: {field.default})"
    return text.replace("%", "%%")


def _spell_out_flags(words: Sequence[str], kinds: dict[str, Any]) -> list[str]:
    """Return ``--greedy`` as ``--greedy=true``, unless true or false follows.

    With argparse's ``nargs="?"`` the flag in ``--allow_partial FILE`` would take the file.
    """
    flags = {f"--{name}" for name, kind in kinds.items() if kind is bool}
    return [
        f"{word}=true" if word in flags and after.lower() not in ("true", "false") else word
        for word, after in zip(words, [*words[1:], ""], strict=False)
    ]


def _read_yaml(path: Path, parser: ArgumentParser, kinds: dict[str, Any]) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_bytes(), yaml.BaseLoader)  # scalars as text, as in argv
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {_tidy(error)}") from None
    if content in NULLS:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected 'key: value' lines")
    for key, value in content.items():
        if key not in kinds:
            near = difflib.get_close_matches(str(key), kinds, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(kinds)}"
            raise UserError(f"{path}: unknown key {key!r}; {hint}")
        is_many = get_origin(kinds[key]) is tuple
        if isinstance(value, dict) or (isinstance(value, list) and not is_many):
            raise UserError(f"{path}: {key}: expected {'a list' if is_many else 'one value'}")
        if value in NULLS:
            if types.NoneType not in get_args(kinds[key]):
                raise UserError(f"{path}: {key}: expected a value, got null")
            content[key] = None
        elif is_many and isinstance(value, str):
            content[key] = [value]
    try:
        return vars(parser.parse_object(content))
    except argparse.ArgumentError as error:
        raise UserError(f"{path}: {_tidy(error)}") from None


def _tidy(message: object) -> str:
    """Return a library's message on one line: ``count: expected int, got 2.5``."""
    plain = " ".join(str(message).replace("typing.", "").split())
    if parts := re.search(r"argument --(\w+): invalid (\w+) value: '(.*)'", plain):
        return f"{parts[1]}: expected {parts[2]}, got {parts[3]}"
    form = r'Parser key "(\w+)"( element \d+)?: Expected (?:a )?(.+?)\. Got value: (.*)'
    if parts := re.search(form, plain):
        kind = re.sub(r"^Literal\[(.*)\]$", r"one of \1", parts[3])
        return f"{parts[1]}{parts[2] or ''}: expected {kind}, got {parts[4]}"
    return plain


def _another_process_reports() -> bool:
    """Return whether the first process on this machine prints the same error.

    Until the processes are connected, all of them refuse the same input, and one line is enough.
    """
    connected = "torch" in sys.modules and sys.modules["torch"].distributed.is_initialized()
    return os.environ.get("LOCAL_RANK", "0") != "0" and not connected
