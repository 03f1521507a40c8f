"""The prompt of both papers: the Alpaca template without input, nothing after ``### Response:``.

That of base models is in ``screl.models.prompts``.
"""

ALPACA_NO_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{question}\n\n### Response:"
)


def build_prompt(question: str, template: str = ALPACA_NO_INPUT) -> str:
    """The text given to the model for one question, which takes the place of the template's last
    ``{question}``.

    >>> build_prompt("1+1?")[-34:]
    '### Instruction:\\n1+1?\\n\\n### Response:'
    """
    # not format: questions contain braces
    before, _, behind = template.rpartition("{question}")
    return before + question + behind


def without_spaces(text: str) -> str:
    """To compare prompts by: decoding changes their white space."""
    return "".join(text.split())
