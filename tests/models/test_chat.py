"""A training row begins with the sampling prompt and ends with the end of the turn."""

from pathlib import Path

import pytest

from screl.core.io import UserError
from screl.core.problems import Problem
from screl.core.prompt_choice import PromptChoice
from screl.models import chat
from screl.models.chat import ChatPrompt
from screl.models.doctor import examine
from screl.models.prompts import settle_prompt
from screl.models.tokenizer import Tokenizer, load_tokenizer
from tests.conftest import ROOT
from tests.models.chat_models import CHAT_MODELS, write_chat_model

QUESTION = "Tom has 3 bags of 4 apples. How many apples does he have?"
ANSWER = "He has 3*4=<<3*4=12>>12 apples.\n#### 12"
THOUGHT = "<think>\n3 bags of 4\n</think>\n\n"
CHAT = PromptChoice("chat")
NO_THINKING = PromptChoice("chat", chat_template_kwargs='{"enable_thinking": false}')
SMOLLM2 = ROOT / "models/smollm2-135m"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("chat")
    return {kind: write_chat_model(kind, root / kind) for kind in CHAT_MODELS}


@pytest.fixture
def tokenizers(folders: dict[str, Path]) -> dict[str, Tokenizer]:
    return {kind: load_tokenizer(str(folder)) for kind, folder in folders.items()}


def problem(solution: str = ANSWER, question: str = QUESTION) -> Problem:
    return Problem(0, question, solution, 1)


def learned(tokenizer: Tokenizer, choice: PromptChoice, solution: str = ANSWER) -> str:
    """Return the text of the tokens with loss, after checking that the others are the prompt."""
    prompt = ChatPrompt(tokenizer, choice)
    example = prompt.example(problem(solution))
    ids = example.input_ids.tolist()
    assert ids[: example.n_prompt] == prompt.ids(QUESTION)
    assert ids[-1] == prompt.end_of_turn
    text: str = tokenizer.decode(ids[example.n_prompt :], skip_special_tokens=False)
    return text


@pytest.mark.parametrize("kind", [k for k in CHAT_MODELS if k not in ("qwen3_thinking",
                                                                     "deepseek_r1")])  # fmt: skip
def test_the_answer_and_the_end_of_turn_are_learned_and_nothing_else(
    kind: str, tokenizers: dict[str, Tokenizer]
) -> None:
    tokenizer, (bos, _, end, _) = tokenizers[kind], CHAT_MODELS[kind]
    choice = NO_THINKING if kind == "qwen3" else CHAT
    assert learned(tokenizer, choice).lstrip(" ") == ANSWER + end
    assert ChatPrompt(tokenizer, choice).end_of_turn == tokenizer.convert_tokens_to_ids(end)
    ids = ChatPrompt(tokenizer, choice).example(problem()).input_ids.tolist()
    if bos and bos != "<|im_start|>":
        n_written = 0 if kind == "phi3" else 1  # Phi-3's template writes none
        assert ids.count(tokenizer.bos_token_id) == n_written
        assert (ids[0] == tokenizer.bos_token_id) == bool(n_written)
    expected = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_dict=False,
        **choice.arguments(), strftime_now=chat.TODAY.strftime,
    )  # fmt: skip
    assert ChatPrompt(tokenizer, choice).ids(QUESTION) == expected


def test_reasoning_is_learned_as_it_is(tokenizers: dict[str, Tokenizer]) -> None:
    text = THOUGHT + ANSWER
    assert learned(tokenizers["qwen3"], CHAT, text) == text + "<|im_end|>"
    # this prompt opens the block, so that the model writes the rest, with or without <think>
    for answer in (text, text.removeprefix("<think>\n")):
        written = learned(tokenizers["qwen3_thinking"], CHAT, answer)
        assert written == text.removeprefix("<think>\n") + "<|im_end|>"


def test_an_empty_block_that_the_template_inserts_is_named(
    tokenizers: dict[str, Tokenizer],
) -> None:
    tokenizer = tokenizers["qwen3"]
    assert ChatPrompt(tokenizer, CHAT).inserted == "<think>\n\n</think>\n\n"
    assert learned(tokenizer, CHAT) == f"<think>\n\n</think>\n\n{ANSWER}<|im_end|>"
    assert not ChatPrompt(tokenizer, NO_THINKING).inserted


@pytest.mark.parametrize(
    ("kind", "choice", "solution", "difference"),
    [
        # the block is dropped, and the prompt of sampling opens another
        ("deepseek_r1", CHAT, THOUGHT + ANSWER, "<think>"),
        ("deepseek_r1", CHAT, ANSWER, "<think>"),
        # white space inside the block is changed
        ("qwen3", CHAT, f"<think>3 bags</think>{ANSWER}", r"<think>3 bags"),
        # the empty block of the prompt and that of the answer
        ("qwen3", NO_THINKING, THOUGHT + ANSWER, "3 bags"),
        ("qwen3", CHAT, f"one</think>two</think>{ANSWER}", "one"),
    ],
)
def test_a_row_that_the_template_rewrites_is_refused_with_the_difference(
    kind: str, choice: PromptChoice, solution: str, difference: str,
    tokenizers: dict[str, Tokenizer],
) -> None:  # fmt: skip
    with pytest.raises(UserError, match="rewrites this row: without the answer") as caught:
        ChatPrompt(tokenizers[kind], choice).example(problem(solution))
    assert difference in str(caught.value)


def test_outer_white_space_is_the_templates_affair(tokenizers: dict[str, Tokenizer]) -> None:
    assert learned(tokenizers["llama3"], CHAT, f" \n{ANSWER}\n\n") == ANSWER + "<|eot_id|>"
    assert learned(tokenizers["qwen2_5"], CHAT, f"{ANSWER}\n") == f"{ANSWER}\n<|im_end|>"


@pytest.mark.parametrize("answer", ["4", "a", "d", "n", "<", "think", "|"])
def test_short_answers_are_not_sought_in_the_header(
    answer: str, tokenizers: dict[str, Tokenizer]
) -> None:
    for kind, choice in (("llama3", CHAT), ("qwen3", NO_THINKING), ("gemma", CHAT)):
        assert learned(tokenizers[kind], choice, answer) == answer + CHAT_MODELS[kind][2]


def test_the_prompt_does_not_depend_on_the_date(tokenizers: dict[str, Tokenizer]) -> None:
    assert "Today Date: 26 Jul 2024" in ChatPrompt(tokenizers["llama3"], CHAT).text(QUESTION)
    dated = PromptChoice("chat", chat_template_kwargs='{"date_string": "1 Jan 2026"}')
    assert "Today Date: 1 Jan 2026" in ChatPrompt(tokenizers["llama3"], dated).text(QUESTION)


def test_a_system_prompt_is_taken_or_refused(tokenizers: dict[str, Tokenizer]) -> None:
    choice = PromptChoice("chat", "Answer with one number.")
    for kind in ("smollm2", "llama3", "qwen2_5", "qwen3", "mistral"):
        prompt = ChatPrompt(tokenizers[kind], choice)
        assert prompt.text(QUESTION).count("Answer with one number.") == 1
        assert learned(tokenizers[kind], choice).endswith(CHAT_MODELS[kind][2])
    with pytest.raises(UserError, match=r"System role not supported; leave out --system_prompt"):
        ChatPrompt(tokenizers["gemma"], choice)
    with pytest.raises(UserError, match=r"leaves out or changes the system message 'Answer with"):
        ChatPrompt(tokenizers["phi3"], choice)


@pytest.mark.parametrize("name", ["enable_thinkng", "tokenize", "add_generation_prompt"])
def test_an_argument_that_would_do_nothing_is_refused(
    name: str, tokenizers: dict[str, Tokenizer]
) -> None:
    choice = PromptChoice("chat", chat_template_kwargs=f'{{"{name}": false}}')
    with pytest.raises(UserError, match=f"has no argument '{name}'"):
        ChatPrompt(tokenizers["qwen3"], choice)


@pytest.mark.parametrize("text", ["{", "[1]", "true", "enable_thinking=false"])
def test_arguments_must_be_a_json_object(text: str) -> None:
    with pytest.raises(UserError, match="expected a JSON object"):
        PromptChoice("chat", chat_template_kwargs=text).check()


def test_templates_that_cannot_be_trained_on_are_named(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["qwen2_5"]
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="has no chat template; give --prompt alpaca"):
        ChatPrompt(tokenizer, CHAT)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    prompt = ChatPrompt(tokenizer, CHAT)
    assert prompt.end_of_turn is None
    with pytest.raises(UserError, match="no special token that a model could stop at"):
        prompt.example(problem())


def test_the_doctor_shows_the_row_token_by_token(folders: dict[str, Path]) -> None:
    report, mismatches = examine(str(folders["gemma"]))
    assert not mismatches
    shown = report.partition("with --prompt chat, first row")[2]
    assert "with loss (*)" in shown
    assert "'<end_of_turn>'" in shown.partition("*")[2]
    assert "'<end_of_turn>', which is not among the EOS; --prompt chat stops there" in report
    choice = PromptChoice("chat", "Be brief.")
    assert "System role not supported" in examine(str(folders["gemma"]), None, choice)[0]
    assert "the template writes '<think>" in examine(str(folders["qwen3"]))[0]


def test_auto_is_chat_where_the_model_has_a_template(
    folders: dict[str, Path], tiny_model: Path
) -> None:
    auto = PromptChoice()
    assert settle_prompt(auto, str(folders["gemma"])) == CHAT
    assert settle_prompt(auto, str(tiny_model)) == PromptChoice("alpaca")
    assert settle_prompt(PromptChoice("alpaca"), str(folders["gemma"])) == PromptChoice("alpaca")
    with pytest.raises(UserError, match="--system_prompt needs --prompt chat, not alpaca"):
        settle_prompt(PromptChoice("auto", "Be brief."), str(tiny_model))
    begun = PromptChoice("chat", "Be brief.")
    assert settle_prompt(auto, str(folders["qwen3"]), begun) == begun
    assert settle_prompt(PromptChoice("auto", ""), str(folders["qwen3"]), begun).system_prompt == ""


@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="needs SmolLM2-135M")
def test_the_template_of_smollm2_is_the_one_written_out(tokenizers: dict[str, Tokenizer]) -> None:
    real = load_tokenizer(str(SMOLLM2))
    assert learned(real, CHAT) == ANSWER + "<|im_end|>"
    written_out = ChatPrompt(tokenizers["smollm2"], CHAT)
    assert ChatPrompt(real, CHAT).text(QUESTION) == written_out.text(QUESTION)
    assert ChatPrompt(real, CHAT).row_text(problem()) == written_out.row_text(problem())
