"""One frozen dataclass per script is the only place for defaults; YAML, then the command line win.

``parse_config(TrainConfig, argv)`` makes an option of every field. ``--config FILE.yaml`` holds
only what differs from the defaults; an unknown key is an error that names the nearest right one.
"""

import argparse
import dataclasses
import difflib
import errno
import os
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from screl.core.io import UserError

ConfigType = TypeVar("ConfigType")


def option(help: str, default: Any = dataclasses.MISSING, positional: bool = False) -> Any:
    """A dataclass field with its help text; without a default the option is required."""
    return dataclasses.field(default=default, metadata={"help": help, "positional": positional})


def parse_config(
    config_class: type[ConfigType], argv: Sequence[str] | None = None, doc: str | None = None,
    prog: str | None = None,
) -> ConfigType:  # fmt: skip
    """Return ``config_class`` from defaults < ``--config`` YAML < command line.

    ``prog`` is what usage lines call the script; None: its file.
    Raises UserError for a bad YAML file; exits with status 2 for a bad command line.
    """
    parser = _make_parser(config_class, doc, prog)
    given = vars(parser.parse_args(_spell_out_flags(config_class, argv)))
    values: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in given.items()
    }
    config_path = values.pop("config")
    from_yaml = _read_yaml(config_path, config_class) if config_path else {}
    merged = from_yaml | values
    for field in _fields(config_class):
        if field.default is dataclasses.MISSING and field.name not in merged:
            parser.error(f"{_flag(field)} is required")
    return config_class(**merged)


def run_main(main: Callable[[], None]) -> None:
    """Run a script's ``main``; bad input ends in one line on stderr and exit status 1."""
    try:
        main()
    except UserError as error:
        sys.exit(1 if _said_by_another() else _one_line(error))
    except BrokenPipeError:  # "| head": the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
        sys.exit(1)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "finished work is kept: make room and run the same command again"
        elif error.filename:
            remedy = "check the path and its permissions"
        else:
            raise
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(_one_line(f"{where}{error.strerror}; {remedy}"))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        sys.exit(130)


def _said_by_another() -> bool:
    """Whether this is not the first process of its machine, and they do not know of each other yet:
    what one of a machine's refuses, all of them do."""
    connected = "torch" in sys.modules and sys.modules["torch"].distributed.is_initialized()
    return os.environ.get("LOCAL_RANK", "0") != "0" and not connected


def show_config(config: Any) -> str:
    """The resolved config as YAML, in the order of its fields."""
    return yaml.safe_dump(plain_config(config), sort_keys=False, allow_unicode=True).strip()


def plain_config(config: Any) -> dict[str, Any]:
    """The config's fields as YAML and JSON know them: paths as text, tuples as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return {key: plain(value) for key, value in dataclasses.asdict(config).items()}


def _one_line(message: object) -> str:
    return "error: " + " ".join(str(message).split("\n"))


def _make_parser(config_class: type, doc: str | None, prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE.yaml",
        help="what differs from the defaults; the command line wins over it",
    )
    for field in _fields(config_class):
        _add_argument(parser, field)
    return parser


def _add_argument(parser: argparse.ArgumentParser, field: Any) -> None:
    kind = field.type
    help_text = field.metadata["help"].replace("%", "%%")
    if field.default is dataclasses.MISSING:
        help_text += " (required)"
    elif field.default not in (None, ()):
        help_text += f" (default: {str(field.default).replace('%', '%%')})"
    settings: dict[str, Any] = {"help": help_text, "default": argparse.SUPPRESS}
    if get_origin(kind) is tuple:
        settings["nargs"] = "*" if field.default == () else "+"
        kind = get_args(kind)[0]
    if kind is bool:
        settings |= {"type": _parse_bool, "metavar": "[true|false]"}
    elif get_origin(kind) is Literal:
        settings |= {"choices": get_args(kind)}
    else:
        settings |= {"type": _scalar_type(kind)}
    parser.add_argument(field.name if field.metadata["positional"] else _flag(field), **settings)


def _flag(field: Any) -> str:
    return f"--{field.name}"


def _fields(config_class: Any) -> list[Any]:
    """The dataclass fields with their types resolved."""
    hints = typing.get_type_hints(config_class)
    fields = list(dataclasses.fields(config_class))
    for field in fields:
        field.type = hints[field.name]
    return fields


def _scalar_type(kind: Any) -> Any:
    """``float`` of ``float | None``; other types unchanged."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(part for part in get_args(kind) if part is not type(None))
    return kind


def _spell_out_flags(config_class: type, argv: Sequence[str] | None) -> list[str]:
    """``--greedy`` as ``--greedy=true``, unless true or false follows.

    argparse's own optional value would take the file in ``--allow_partial FILE`` for it.
    """
    flags = {_flag(field) for field in _fields(config_class) if field.type is bool}
    words = list(sys.argv[1:] if argv is None else argv)
    return [
        f"{word}=true" if word in flags and not is_bool else word
        for word, is_bool in zip(words, [*map(_is_bool, words[1:]), False], strict=False)
    ]


def _is_bool(text: str) -> bool:
    return text.lower() in ("true", "false")


def _parse_bool(text: str) -> bool:
    if not _is_bool(text):
        raise argparse.ArgumentTypeError(f"expected true or false, not {text!r}")
    return text.lower() == "true"


def _read_yaml(path: Path, config_class: type) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path after --config") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; save it as such") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected 'key: value' lines")
    fields = {field.name: field for field in _fields(config_class)}
    for key in content:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(fields)}"
            raise UserError(f"{path}: unknown key {key!r}; {hint}")
    return {key: _convert(value, fields[key].type, path, key) for key, value in content.items()}


def _convert(value: Any, kind: Any, path: Path, key: str) -> Any:
    """A YAML value as the field's type. PyYAML reads ``2e-5`` as text, hence the conversion."""
    if value is None and type(None) in get_args(kind):
        return None
    if get_origin(kind) is tuple:
        items = value if isinstance(value, list) else [value]
        return tuple(_convert(item, get_args(kind)[0], path, key) for item in items)
    wrong = UserError(f"{path}: {key}: {value!r} is not {_describe(kind)}")
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise wrong
        return value
    target = _scalar_type(kind)
    if target in (str, Path):
        return target(str(value))
    if (target is bool) != isinstance(value, bool) or (target is int and isinstance(value, float)):
        raise wrong
    try:
        return target(value)
    except (TypeError, ValueError):
        raise wrong from None


def _describe(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(
        _scalar_type(kind), str(kind)
    )
