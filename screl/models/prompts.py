"""Choose and build prompts: Alpaca's, chat, few-shot; and the chat template of trained models.

``screl/models/chat.py`` makes the prompts of a chat template.

With --prompt icl, a prompt is solved problems, then the question. The paper's tables begin with
such a row (arXiv 2308.01825, Table 6, "ICL, 8-shot"). Its numbers come from the LLaMA papers, which
do not publish their prompts. Wording, white space and stop string here follow the task ``gsm8k`` of
lm-evaluation-harness. The harness draws new exemplars from GSM8K's training set for each question;
the exemplars in ``data/icl/gsm8k.jsonl`` were written for this project and are the same for all
questions.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

from jinja2 import TemplateError

from screl.core.io import UserError
from screl.core.problems import (
    ALPACA_NO_INPUT,
    Problem,
    build_prompt,
    load_problems,
    without_spaces,
)
from screl.core.prompt_choice import PromptChoice
from screl.core.run_info import training_config
from screl.models.chat import ChatPrompt
from screl.models.tokenizer import (
    Example,
    Tokenizer,
    load_tokenizer,
    prompt_ids,
    tokenize_example,
)

QUESTION = "Tom has 3 boxes of 4 pens and gives 5 pens away. How many pens are left?"
SHOTS = Path(__file__).parents[2] / "data/icl/gsm8k.jsonl"
STOP = "Question:"  # the model has begun to make up another problem


class TextPrompt:
    """A prompt that is a text with the question filled in; EOS ends an answer."""

    inserted = ""  # a template of text adds nothing to an answer

    def __init__(self, tokenizer: Tokenizer, template: str = ALPACA_NO_INPUT) -> None:
        self._tokenizer, self.template = tokenizer, template
        self.end_of_turn: int = tokenizer.eos_token_id

    def text(self, question: str) -> str:
        """Return the prompt of a question as text."""
        return build_prompt(question, self.template)

    def ids(self, question: str) -> list[int]:
        """Return the tokens of the prompt, with the BOS if the tokenizer adds one."""
        return prompt_ids(self._tokenizer, self.text(question))

    def row_text(self, problem: Problem) -> str:
        """Return a training row as text, without EOS."""
        return self.text(problem.question) + problem.solution

    def example(self, problem: Problem) -> Example:
        """Return one training row: the Alpaca prompt, the solution, and EOS."""
        return tokenize_example(self._tokenizer, problem)


Prompt = TextPrompt | ChatPrompt


def make_prompt(tokenizer: Tokenizer, choice: PromptChoice) -> Prompt:
    """Return the prompt of a settled choice; raise UserError if the model has no such prompt."""
    return ChatPrompt(tokenizer, choice) if choice.prompt == "chat" else TextPrompt(tokenizer)


def settle_prompt(
    asked: PromptChoice, name: str, begun: PromptChoice | None = None
) -> PromptChoice:
    """Return the prompt to use for the model ``name``, with nothing left to decide.

    ``auto`` is the prompt with which this run was ``begun``, else that of the model's training,
    else ``chat`` if the model has a chat template, else ``alpaca``. A system prompt and arguments
    that are not given are those of the same run or training. Raises UserError if they are given
    and the prompt is not ``chat``.
    """
    asked.check()
    if asked.prompt not in ("auto", "chat"):
        return asked
    known = begun or trained_prompt(name)
    prompt = asked.prompt
    if prompt == "auto" and known:
        prompt = known.prompt
    elif prompt == "auto":
        prompt = "chat" if load_tokenizer(name).chat_template else "alpaca"
    system, arguments = asked.system_prompt, asked.chat_template_kwargs
    if known and known.prompt == "chat":
        system = known.system_prompt if system is None else system
        arguments = known.chat_template_kwargs if arguments is None else arguments
    choice = PromptChoice(prompt, system, arguments)
    choice.check()
    return choice


def trained_prompt(name: str) -> PromptChoice | None:
    """Return the prompt that train.py trained the model on, None if it did not train it.

    Its run.json says so or, where that is missing, a chat template that is the Alpaca prompt.
    """
    if config := training_config(Path(name)):
        return PromptChoice.of(config)
    tokenizer = load_tokenizer(name)
    alpaca = prompt_ids(tokenizer, build_prompt(QUESTION))
    return PromptChoice("alpaca") if templated_ids(tokenizer, QUESTION) == alpaca else None


def icl_template(shots: Sequence[Problem]) -> str:
    """Return the prompt template: the solved ``shots``, then ``{question}`` with an empty answer.

    >>> icl_template([Problem(0, "1+1?", "<<1+1=2>>2\\n#### 2", line=1)])
    'Question: 1+1?\\nAnswer: <<1+1=2>>2\\n#### 2\\n\\nQuestion: {question}\\nAnswer:'
    """
    solved = [f"Question: {shot.question}\nAnswer: {shot.solution}\n\n" for shot in shots]
    return "".join([*solved, "Question: {question}\nAnswer:"])


def choose_shots(
    path: Path, n_shots: int, seed: int | None, problems: Sequence[Problem], data_path: Path
) -> list[Problem]:
    """Return ``n_shots`` exemplars from ``path``: its first rows or, with a ``seed``, random ones.

    An exemplar must not be one of ``problems``, or the prompt would contain its solution: a random
    choice skips such rows, but for the first rows they raise a UserError that names the line. Too
    few rows also raise UserError.
    """
    asked = {without_spaces(problem.question): problem for problem in problems}
    rows = load_problems(path, needs_solution=True)
    if seed is not None:
        # shuffle all rows, so that another problem changes the choice only if its row was chosen
        rows = random.Random(seed).sample(rows, len(rows))
        rows = [row for row in rows if without_spaces(row.question) not in asked]
    shots = rows[:n_shots]
    for shot in shots:
        if problem := asked.get(without_spaces(shot.question)):
            raise UserError(
                f"{path}:{shot.line}: this question is also asked ({data_path}:"
                f"{problem.line}), and the prompt would hold its solution; take one of the two "
                "rows out, or draw other exemplars with --shots_seed"
            )
    if len(shots) < n_shots:
        which = "" if seed is None else f" that are not in {data_path}"
        raise UserError(
            f"{path}: has {len(shots)} rows{which}, too few for --n_shots {n_shots}; "
            "lower it or give another --shots_path"
        )
    return shots


def trained_template(prefix: str) -> str:
    """Return the chat template, in Jinja, that writes the Alpaca prompt after ``prefix`` (the BOS).

    It takes one user message and, as in a training row, at most one answer, which EOS ends. Other
    conversations raise an error, because the model has seen none.
    """
    before, after = ALPACA_NO_INPUT.split("{question}")
    return (
        "{% if messages | map(attribute='role') | join(' ') not in ['user', 'user assistant'] %}"
        "{{ raise_exception('this model was trained on one question at a time, without a system "
        "prompt: give one user message') }}{% endif %}"
        f"{{{{ {json.dumps(prefix + before)} + messages[0].content + {json.dumps(after)} }}}}"
        "{% if messages | length == 2 %}{{ messages[1].content + eos_token }}{% endif %}"
    )


def set_trained_template(tokenizer: Tokenizer) -> bool:
    """Give ``tokenizer`` the chat template that yields the tokens of a training prompt.

    Chat servers such as vLLM's prompt with it. Some tokenizers put a space after the BOS and others
    do not; if neither yields the trained tokens, the tokenizer gets no template. Returns whether it
    has one.
    """
    prompt = prompt_ids(tokenizer, build_prompt(QUESTION))
    n_text = len(tokenizer(build_prompt(QUESTION), add_special_tokens=False).input_ids)
    prefix = tokenizer.decode(prompt[: len(prompt) - n_text])
    for tokenizer.chat_template in (trained_template(prefix), trained_template(prefix + " ")):
        if templated_ids(tokenizer, QUESTION) == prompt:
            return True
    tokenizer.chat_template = None
    return False


def templated_ids(tokenizer: Tokenizer, question: str) -> list[int] | None:
    """Return the tokens of a question in the tokenizer's chat template, None if it has none.

    None also stands for a template that does not take a single question.
    """
    if not tokenizer.chat_template:
        return None
    message = [{"role": "user", "content": question}]
    try:
        ids: list[int] = tokenizer.apply_chat_template(
            message, add_generation_prompt=True, return_dict=False
        )
    except (TemplateError, ValueError, TypeError, KeyError):  # of the model's own template
        return None
    return ids
