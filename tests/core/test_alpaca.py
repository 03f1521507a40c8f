"""The published prompt, to the letter."""

from screl.core.alpaca import build_prompt


def test_the_prompt_is_the_published_one_and_takes_braces() -> None:
    assert build_prompt("{x} 50% {}") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\n{x} 50% {}\n\n### Response:"
    )
