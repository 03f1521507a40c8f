"""Choose the prompt of a model: the options that do so, and what files record of them."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from screl.core.io import UserError

# Help of the options that train.py, its --doctor, and sample.py share.
SYSTEM_PROMPT = (
    "system message, with --prompt chat; default: that of the model's training, else none; '': none"
)
CHAT_TEMPLATE_KWARGS = (
    "further arguments of the chat template, a JSON object such as "
    "'{\"enable_thinking\": false}'; default: those of the model's training"
)


@dataclass(frozen=True)
class PromptChoice:
    """The values of ``--prompt``, ``--system_prompt``, and ``--chat_template_kwargs``.

    ``prompt`` is ``alpaca``, ``icl``, ``chat``, or ``auto``, which ``settle_prompt`` replaces.
    """

    prompt: str = "auto"
    system_prompt: str | None = None
    chat_template_kwargs: str | None = None

    @staticmethod
    def of(record: Mapping[str, Any]) -> "PromptChoice":
        """Return the choice in a manifest, a run.json's config, or an options dataclass's fields.

        Versions that recorded no prompt knew only ``alpaca``.
        """
        system, arguments = record.get("system_prompt"), record.get("chat_template_kwargs")
        return PromptChoice(record.get("prompt", "alpaca"), system, arguments)

    def check(self) -> None:
        """Raise UserError for arguments that are no JSON object or that no prompt would use."""
        self.arguments()
        for name in ("system_prompt", "chat_template_kwargs"):
            if getattr(self, name) and self.prompt not in ("chat", "auto"):
                raise UserError(f"--{name} needs --prompt chat, not {self.prompt}")

    def arguments(self) -> dict[str, Any]:
        """Return the arguments for the chat template; raise UserError if they are not JSON."""
        try:
            arguments = json.loads(self.chat_template_kwargs or "{}")
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise UserError(
                f"--chat_template_kwargs: expected a JSON object such as "
                f"'{{\"enable_thinking\": false}}', got {self.chat_template_kwargs}"
            )
        return arguments

    def is_same(self, other: "PromptChoice") -> bool:
        """Return whether both give the same prompt, however its arguments are spelled."""
        return self._key() == other._key()

    def _key(self) -> tuple[str, str | None, dict[str, Any]]:
        return self.prompt, self.system_prompt or None, self.arguments()

    def __str__(self) -> str:
        """Return the options, as on a command line."""
        given = {name: value for name, value in asdict(self).items() if value}
        return " ".join(f"--{name} {shlex.quote(value)}" for name, value in given.items())
