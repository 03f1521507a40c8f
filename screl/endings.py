"""What ends a completion, and what is kept of it then; the same for every engine."""

from collections.abc import Iterable, Sequence

from screl.modeling import Tokenizer, decode_completion
from screl.requests import Drawn, Request, Watch
from screl.store import Sample


class Endings:
    """EOS tokens and, if there is one, a stop string."""

    def __init__(self, tokenizer: Tokenizer, ends: Iterable[int], stop: str | None) -> None:
        self._tokenizer, self._ends, self._stop = tokenizer, frozenset(ends), stop
        self._completes: dict[int, bool] = {}  # whether a token has the stop string's last letter

    def is_reached(self, request: Request, token_ids: Sequence[int]) -> bool:
        """Whether a completion, which had not ended before its newest token, has ended with it."""
        newest = token_ids[-1]
        if newest in self._ends or self._stop is None:
            return newest in self._ends
        # The text is decoded where it may matter only: that takes longer than writing a token of
        # a small model. A stop string can begin anywhere in a token, and end anywhere in another.
        if newest not in self._completes:
            self._completes[newest] = self._stop[-1] in self._tokenizer.decode([newest])
        return self._completes[newest] and self._stop in self._text(request, token_ids)

    def to_drawn(
        self, request: Request, sample_id: int, token_ids: list[int], log_probability: float
    ) -> Drawn:
        """A completion that has ended or was cut off. All its tokens count, an EOS and a stop
        string too: they were drawn, with a probability (looked at if the request is watched).

        Its text ends before the stop string, and where there may be one, it has no white space at
        its ends: there a few-shot prompt has the space or blank line between its parts.
        """
        is_ended = token_ids[-1] in self._ends
        text = self._text(request, token_ids[:-1] if is_ended else token_ids)
        if self._stop is not None:
            text, found, _ = text.partition(self._stop)
            text, is_ended = text.strip(), is_ended or bool(found)
        sample = Sample(
            problem_id=request.problem_id,
            sample_id=sample_id,
            completion=text,
            n_tokens=len(token_ids),
            finish_reason="stop" if is_ended else "length",
        )
        watched = request.watched
        return Drawn(sample, Watch(tuple(token_ids), log_probability) if watched else None)

    def _text(self, request: Request, token_ids: Sequence[int]) -> str:
        return decode_completion(self._tokenizer, request.prompt_ids, list(token_ids))
