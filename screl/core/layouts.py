"""Find the question, the worked solution and the final answer in a row of any usual layout.

``query``/``response`` and their many synonyms, Alpaca's ``instruction``/``input``/``output``,
``prompt``/``completion`` and chat messages. Two readings of a row are an error that names the
option which chooses, never a guess.
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from screl.core.io import UserError

Row = dict[str, Any]

QUESTION_KEYS = ("query", "question", "problem", "prompt", "instruction")
SOLUTION_KEYS = (
    *("response", "solution", "output", "completion", "generated_solution", "generation"),
    *("resp", "rationale"),
)
ANSWER_KEYS = (
    *("answer", "final_answer", "expected_answer", "gold_answer", "correct_answer"),
    *("reference_answer", "ground_truth", "reward_model.ground_truth", "target", "gold", "gt"),
)
CHAT_KEYS = ("messages", "conversations", "conversation")
INPUT = "input"  # Alpaca's second half of the question; without an instruction, the question
CONTEXT_KEYS = ("body", "context", "passage", "paragraph", "story", "background", "article", INPUT)
ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
MIN_WORDS = 12  # of a worked solution in words alone
QUERY_KEY = "key of the question, or several keys whose texts are joined; default: found by name"
RESPONSE_KEY = "key of the worked solution; default: found by name"
ANSWER_KEY = "key of the short final answer; default: found by name"


@dataclass(frozen=True, slots=True)
class RowKeys:
    """The keys that the user chose; what is empty is found by name."""

    query: tuple[str, ...] = ()
    response: str | None = None
    answer: str | None = None


class KeyOptions:
    """A config whose options choose the keys of the data."""

    query_key: tuple[str, ...]
    response_key: str | None
    answer_key: str | None

    @property
    def keys(self) -> RowKeys:
        """The keys of the data that the user chose."""
        return RowKeys(self.query_key, self.response_key, self.answer_key)


class Text(NamedTuple):
    """A text and its key in the row."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a row was read as; ``used`` are all keys whose values are accounted for."""

    question: Text
    solution: Text | None
    answer: Text | None
    used: frozenset[str]
    has_system: bool


class Chat(NamedTuple):
    """One exchange of a chat."""

    user: str | None
    assistant: str | None
    has_system: bool


def read_row(row: Row, keys: RowKeys, where: str) -> Reading:
    """Return what the row means; raise UserError, with ``where``, if that is not certain.

    An answer key that holds a worked solution stays the ``answer`` if the row has no solution.
    """
    question, parts = _question(row, keys, where)
    answers = _answers(row, keys, where)
    if keys.response:
        text = _text(_get(row, keys.response), "assistant", where)
        if text is None:
            raise UserError(f"{where}: no text under {keys.response!r}, the --response_key")
        solutions = [Text(keys.response, text)]
    else:
        solutions = _candidates(row, (*SOLUTION_KEYS, *CHAT_KEYS), "assistant", where)
        taken = {*parts, keys.answer} - {*CHAT_KEYS}  # a chat holds both question and solution
        solutions = [solution for solution in solutions if solution.key not in taken]
        if solutions and not keys.answer:
            solutions += [answer for answer in answers if is_worked(answer.text)]
            answers = [answer for answer in answers if not is_worked(answer.text)]
    solution = _only(solutions, "--response_key", "solution", where)
    answer = _only(answers, "--answer_key", "final answer", where)
    used = frozenset([*parts, *(text.key.split(".")[0] for text in [*solutions, *answers])])
    chats = [chat_of(row[key], where) for key in used if key in row]
    return Reading(
        question, solution, answer, used, any(chat and chat.has_system for chat in chats)
    )


def _answers(row: Row, keys: RowKeys, where: str) -> list[Text]:
    if keys.answer:
        text = _short(_get(row, keys.answer))
        if text is None:
            raise UserError(f"{where}: no text or number under {keys.answer!r}, the --answer_key")
        return [Text(keys.answer, text)]
    found = _candidates(row, ANSWER_KEYS, "assistant", where)
    return [answer for answer in found if answer.key != keys.response]


def is_worked(text: str) -> bool:
    r"""Return whether ``text`` is a worked solution, not only a final answer.

    It has an equation of the calculator, a text before ``####``, a text around a box, several
    lines, or many words.

    >>> [is_worked(t) for t in ("7", "#### 7", "9 (apples)", r"\frac{1}{2}", "3+4=7\n#### 7")]
    [False, False, False, False, True]
    """
    words = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", text)
    if "\\" not in text and len([line for line in text.split("\n") if line.strip()]) > 1:
        return True
    return bool(
        len(words) >= MIN_WORDS
        or re.search(r"<<.*=.*>>|\S\s*####", text)
        or (r"\boxed" in text and len(words) > 3)
    )


def _question(row: Row, keys: RowKeys, where: str) -> tuple[Text, list[str]]:
    """Return the question and the keys of the row that make it up."""
    if keys.query:
        texts = [_text(_get(row, key), "user", where) or "" for key in keys.query]
        if not all(text.strip() for text in texts):
            missing = next(key for key, text in zip(keys.query, texts, strict=True) if not text)
            raise UserError(f"{where}: no text under {missing!r}, the --query_key")
        joined = texts[0] if len(texts) == 1 else " ".join(text.strip() for text in texts)
        return Text(" + ".join(keys.query), joined), list(keys.query)
    found = _candidates(row, (*QUESTION_KEYS, *CHAT_KEYS), "user", where)
    found = found or _candidates(row, (INPUT,), "user", where)
    question = _only(found, "--query_key", "question", where)
    if question is None:
        empty = [key for key in row if key.lower() in QUESTION_KEYS and row[key] is not None]
        if empty and isinstance(row[empty[0]], str):
            raise UserError(f"{where}: the {empty[0]} is empty; fix or delete this line")
        raise UserError(
            f"{where}: no text under {QUESTION_KEYS[0]!r} or any other key of a question (found "
            f"keys: {', '.join(row)}); give its key with --query_key"
        )
    parts = [text.key for text in found]
    for context in _candidates(row, CONTEXT_KEYS, "user", where):
        if _bare(context.text) in _bare(question.text):
            continue
        if question.key.lower() == "instruction" and context.key.lower() == INPUT:
            question = Text(f"{question.key} + {context.key}", f"{question.text}\n{context.text}")
            parts.append(context.key)
            continue
        raise UserError(
            f"{where}: {context.key!r} stands beside {question.key!r} and would be left out; give "
            f"--query_key {context.key} {question.key} to join them, or --query_key {question.key}"
        )
    return question, parts


def _candidates(row: Row, names: tuple[str, ...], role: str, where: str) -> list[Text]:
    """Return the texts in the row under any of ``names``, in upper or lower case."""
    in_row = {key.lower(): key for key in reversed(row)}
    found = []
    for name in names:
        key = in_row.get(name, name)
        value = _get(row, key)
        text = _short(value) if name in ANSWER_KEYS else _text(value, role, where)
        if text is not None and text.strip():
            found.append(Text(key, text))
    return found


def _only(found: list[Text], option: str, what: str, where: str) -> Text | None:
    """Return the first of the texts, which must all be the same; None if there is none."""
    for other in found[1:]:
        if not _same(found[0].text, other.text):
            raise UserError(
                f"{where}: {found[0].key!r} and {other.key!r} hold different texts, and either may "
                f"be the {what}; choose with {option} {found[0].key} or {option} {other.key}"
            )
    return found[0] if found else None


def _same(first: str, second: str) -> bool:
    try:
        return float(first) == float(second)
    except ValueError:
        return _bare(first) == _bare(second)


def _bare(text: str) -> str:
    return "".join(text.split())


def _get(row: Row, key: str) -> Any:
    """Return the value under ``key`` or, for "a.b", under b of the object a; None without one."""
    if key in row or "." not in key:
        return row.get(key)
    outer, _, inner = key.partition(".")
    value = row.get(outer)
    return _get(value, inner) if isinstance(value, dict) else None


def _text(value: object, role: str, where: str) -> str | None:
    """Return the text of a value, or what ``role`` says in it if it is a chat."""
    if isinstance(value, str):
        return value
    chat = chat_of(value, where)
    return None if chat is None else chat.user if role == "user" else chat.assistant


def _short(value: object) -> str | None:
    """Return a final answer as text: a text, a number, or a list of one of them."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, str | int | float) else None


def chat_of(value: object, where: str) -> Chat | None:
    """Return the exchange in a list of chat messages; None if ``value`` is no such list.

    Raises UserError, with ``where``, for several turns or an unknown role.
    """
    if not isinstance(value, list) or not value or not all(isinstance(m, dict) for m in value):
        return None
    if not all(message.keys() & {"role", "from"} for message in value):
        return None
    roles: list[str] = []
    texts: dict[str, str] = {}
    for message in value:
        named = str(message.get("role") or message.get("from"))
        role = ROLES.get(named.lower())
        if role is None:
            raise UserError(f"{where}: a message of role {named!r}; only user and assistant count")
        roles.append(role)
        texts[role] = _content(message.get("content", message.get("value")), where)
    turns = [role for role in roles if role != "system"]
    if turns not in (["user"], ["assistant"], ["user", "assistant"]):
        raise UserError(
            f"{where}: several turns ({', '.join(turns)}); only one question and one response can "
            "be used: split the row or delete it"
        )
    return Chat(texts.get("user"), texts.get("assistant"), "system" in roles)


def _content(value: object, where: str) -> str:
    """Return the text of a message, which may come in parts; raise UserError for an image."""
    parts = value if isinstance(value, list) else [value or ""]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    known = [text for text in texts if isinstance(text, str)]
    if len(known) < len(texts):
        raise UserError(f"{where}: a message that is not text; only text can be used")
    return "".join(known)
