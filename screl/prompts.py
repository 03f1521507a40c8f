"""The prompt of both papers: the Alpaca template without input, nothing after ``### Response:``."""

ALPACA_NO_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{question}\n\n### Response:"
)


def build_prompt(question: str) -> str:
    """The text given to the model for one question.

    >>> build_prompt("1+1?")[-34:]
    '### Instruction:\\n1+1?\\n\\n### Response:'
    """
    # replace, not format: questions contain braces
    return ALPACA_NO_INPUT.replace("{question}", question)


def without_spaces(text: str) -> str:
    """To compare prompts by: decoding changes their white space."""
    return "".join(text.split())
