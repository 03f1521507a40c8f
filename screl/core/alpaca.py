"""The prompt of both papers: the Alpaca template without input, which ends in ``### Response:``.

``screl.models.prompts`` has the few-shot prompt of base models.
"""

ALPACA_NO_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{question}\n\n### Response:"
)


def build_prompt(question: str, template: str = ALPACA_NO_INPUT) -> str:
    """Return the text given to the model: ``template`` with its last ``{question}`` filled in.

    >>> build_prompt("1+1?")[-36:]
    '### Instruction:\\n1+1?\\n\\n### Response:'
    """
    # not str.format: questions contain braces
    before, _, after = template.rpartition("{question}")
    return before + question + after


def without_spaces(text: str) -> str:
    """Return ``text`` without white space, to compare prompts: decoding changes white space."""
    return "".join(text.split())
