"""Build the prompt of both papers: the Alpaca template without input.

``screl.models.prompts`` has the few-shot prompt for base models.
"""

ALPACA_NO_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{question}\n\n### Response:"
)


def build_prompt(question: str, template: str = ALPACA_NO_INPUT) -> str:
    """Return the model's prompt: ``template`` with its last ``{question}`` filled in.

    >>> build_prompt("1+1?")[-36:]
    '### Instruction:\\n1+1?\\n\\n### Response:'
    """
    # not str.format: questions contain braces
    before, _, after = template.rpartition("{question}")
    return before + question + after


def without_spaces(text: str) -> str:
    """Return ``text`` without white space, to compare prompts, since decoding changes it."""
    return "".join(text.split())
