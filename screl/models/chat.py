"""Make prompts and training rows with a model's own chat template.

A row is one user message and its answer. The template renders it twice, with and without the
answer: what the second rendering has more is what the model must write. Templates may do otherwise
with an answer than to copy it, above all with ``<think>``; such rows are refused.
"""

import inspect
import re
from datetime import datetime

import numpy as np
from jinja2 import TemplateError

from screl.core.io import UserError
from screl.core.problems import Problem, without_spaces
from screl.core.prompt_choice import PromptChoice
from screl.models.tokenizer import Example, Tokenizer

PROBE_QUESTION, PROBE_ANSWER = "How many pens are left?", "He has 1234 pens."
# LLaMA 3's templates write the date of today. A prompt must not change overnight, so it is always
# the date that these templates name for programs without a clock.
TODAY = datetime(2024, 7, 26)
SHOWN = 30  # characters before and after the first difference


class ChatPrompt:
    """The prompt that a model's chat template makes of a question.

    ``end_of_turn`` is the token that ends an answer, None if the template ends it with text.
    ``inserted`` is text, such as an empty ``<think>`` block, that the template writes between the
    prompt and an answer without reasoning. Raises UserError if the tokenizer has no template, or
    one that does not take a question or these arguments.
    """

    def __init__(self, tokenizer: Tokenizer, choice: PromptChoice) -> None:
        self._tokenizer = tokenizer
        self._name = tokenizer.name_or_path
        self._system = choice.system_prompt
        self._arguments = choice.arguments()
        if not tokenizer.chat_template:
            raise UserError(f"{self._name}: has no chat template; give --prompt alpaca")
        self._check_arguments()
        self.template = self.text("{question}")
        row = self._render(PROBE_QUESTION, PROBE_ANSWER)
        before, _, after = row.rpartition(PROBE_ANSWER)
        self.end_of_turn = self._first_control_token(after)
        prompt = self.text(PROBE_QUESTION)
        self.inserted = before.removeprefix(prompt) if before.startswith(prompt) else ""
        if not self.inserted.strip():
            self.inserted = ""

    def text(self, question: str) -> str:
        """Return the prompt of a question as text, with its control tokens."""
        return self._render(question, None)

    def ids(self, question: str) -> list[int]:
        """Return the tokens of the prompt; a BOS is among them only if the template writes one."""
        return self._tokenize(self.text(question))

    def row_text(self, problem: Problem) -> str:
        """Return a training row as the template writes it."""
        return self._render(problem.question, problem.solution)

    def example(self, problem: Problem) -> Example:
        """Return one training row, which ends with the end of the turn.

        It begins with the tokens of ``ids``; all tokens after them carry loss. Raises UserError
        with the first difference if the template changes the prompt or the answer.
        """
        prompt, row = self.text(problem.question), self.row_text(problem)
        answer = problem.solution.strip()  # some templates strip it
        if not row.startswith(prompt):
            raise self._rewritten(prompt, row)
        written = row[len(prompt) :]
        end = self._end_of_answer(prompt, written, answer)
        if end is None:
            raise self._rewritten(prompt + answer, row)
        start, ids = self._tokenize(prompt), self._tokenize(row)
        if ids[: len(start)] != start:  # a token across the boundary
            ids = start + self._tokenize(written)
        after = self._tokenize(written[end:])
        end_of_turn = self._first_control_token(written[end:])
        if end_of_turn is None:
            raise UserError(
                f"the chat template of {self._name} ends an answer with {written[end:]!r}, which "
                "has no special token that a model could stop at; give --prompt alpaca"
            )
        ends = [place for place, token_id in enumerate(ids) if token_id == end_of_turn]
        last = ends[-after.count(end_of_turn)]
        return Example(np.array(ids[: last + 1], dtype=np.int32), len(start))

    def _render(self, question: str, answer: str | None) -> str:
        """Return the conversation as text; without an answer it ends where the answer begins."""
        messages = [{"role": "system", "content": self._system}] if self._system else []
        messages.append({"role": "user", "content": question})
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        fixed = {"strftime_now": TODAY.strftime}
        try:
            text: str = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=answer is None,
                **(fixed | self._arguments),
            )  # fmt: skip
        except (TemplateError, ValueError, TypeError, KeyError) as error:  # of the template
            roles = ", ".join(message["role"] for message in messages)
            raise UserError(
                f"the chat template of {self._name} does not take these messages ({roles}): "
                f"{error}; {self._way_out()}"
            ) from None
        squeezed = without_spaces(text)
        for message in messages:
            if message["role"] != "assistant" and (
                without_spaces(message["content"]) not in squeezed
            ):
                raise UserError(
                    f"the chat template of {self._name} leaves out or changes the "
                    f"{message['role']} message {message['content'][:40]!r}; {self._way_out()}"
                )
        return text

    def _way_out(self) -> str:
        return "leave out --system_prompt" if self._system else "give --prompt alpaca"

    def _tokenize(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _first_control_token(self, text: str) -> int | None:
        control = {*self._tokenizer.added_tokens_decoder, *self._tokenizer.all_special_ids}
        return next((token for token in self._tokenize(text) if token in control), None)

    def _end_of_answer(self, prompt: str, written: str, answer: str) -> int | None:
        """Return where ``answer`` ends in the text after the prompt; None if it is not there."""
        for before in ("", self.inserted):
            if written.startswith(before):
                text = written[len(before) :].lstrip()
                if text.startswith(answer):
                    return len(written) - len(text) + len(answer)
        for n in range(1, len(answer)):  # the prompt may have begun it, with <think>
            if prompt.endswith(answer[:n]) and written.startswith(answer[n:]):
                return len(answer) - n
        return None

    def _rewritten(self, expected: str, row: str) -> UserError:
        where = first_difference(expected, row)
        return UserError(
            f"the chat template of {self._name} rewrites this row: {where}; write the response as "
            "the template does, change --chat_template_kwargs, or give --prompt alpaca"
        )

    def _check_arguments(self) -> None:
        """Raise UserError for arguments that the template does not use, or that are not its own."""
        template = self._tokenizer.get_chat_template()
        own = inspect.signature(self._tokenizer.apply_chat_template).parameters
        for name in self._arguments:
            if (name in own and name not in ("tools", "documents")) or not re.search(
                rf"\b{re.escape(name)}\b", template
            ):
                raise UserError(
                    f"--chat_template_kwargs: the chat template of {self._name} has no argument "
                    f"{name!r}"
                )


def first_difference(expected: str, actual: str) -> str:
    """Return where two renderings begin to differ, with the text around that place.

    >>> first_difference("<user>2+2?<model><think>", "<user>2+2?<model>4")
    "without the answer '<user>2+2?<model><think>', with it '<user>2+2?<model>4'"
    """
    pairs = enumerate(zip(expected, actual, strict=False))
    shorter = min(len(expected), len(actual))
    at = next((place for place, (one, other) in pairs if one != other), shorter)
    around = slice(max(0, at - SHOWN), at + SHOWN)
    return f"without the answer {expected[around]!r}, with it {actual[around]!r}"
