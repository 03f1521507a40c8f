"""Chat models from training to scores: the prompt is remembered, and the end of turn is learned."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import collect_rejection_sampling
import eval as eval_script
import sample as sample_script
import train as train_script
from screl.core.io import UserError, read_json_object
from screl.models.chat import ChatPrompt
from screl.models.prompts import PromptChoice
from screl.models.tokenizer import load_tokenizer
from screl.samples.store import read_samples
from tests.conftest import ROOT, write_lines
from tests.models.chat_models import CHAT_MODELS, write_chat_model

PAGE = ROOT / "docs/models.md"
Run = Callable[..., tuple[str, str]]
QUESTION, ANSWER = "Tom has 3 bags of 4 apples. How many?", "3*4=<<3*4=12>>12\n#### 12"
TRAIN = ("--num_train_epochs", 100, "--global_batch_size", 4, "--learning_rate", 0.01,
         "--precision", "fp32", "--save_steps", 0)  # fmt: skip
FEW = ("--num_train_epochs", 2)
SAMPLE = ("--greedy", "--engine", "transformers", "--precision", "fp32", "--max_new_tokens", 80)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a script in this process and returns stdout and stderr."""
    mains = {
        "train.py": train_script.main,
        "sample.py": sample_script.main,
        "collect_rejection_sampling.py": collect_rejection_sampling.main,
        "eval.py": eval_script.main,
    }

    def run_main(script: str, *words: object) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
        capsys.readouterr()
        mains[script]()
        return capsys.readouterr()

    return run_main


def write_data(folder: Path, solution: str = ANSWER) -> Path:
    row = json.dumps({"query": QUESTION, "response": solution})
    return write_lines(folder / "data.jsonl", [row] * 4)


def train_words(folder: Path, data: Path) -> tuple[object, ...]:
    paths = ("--model_name_or_path", folder / "base", "--data_path", data)
    return ("train.py", *paths, "--output_dir", folder / "out", *TRAIN)


def sample_words(folder: Path, data: Path, store: str) -> tuple[object, ...]:
    paths = ("--model_name_or_path", folder / "out", "--data_path", data)
    return ("sample.py", *paths, "--output_dir", folder / store, *SAMPLE)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("gemma", ()),  # its EOS is not its end of turn
        ("phi3", ()),
        ("qwen3", ("--chat_template_kwargs", '{"enable_thinking": false}')),
        ("llama3", ("--system_prompt", "Be brief.")),
        ("qwen2_5", ()),
        ("mistral", ()),
        ("smollm2", ()),
    ],
)
def test_the_model_learns_the_answer_and_to_stop(
    kind: str, options: tuple[str, ...], tmp_path: Path, run: Run
) -> None:
    write_chat_model(kind, tmp_path / "base")
    data = write_data(tmp_path)
    said = run(*train_words(tmp_path, data), *options)[1]
    assert "prompt: the chat template of" in said
    out, end = tmp_path / "out", CHAT_MODELS[kind][2]
    tokenizer = load_tokenizer(str(out))
    assert tokenizer.chat_template == load_tokenizer(str(tmp_path / "base")).chat_template
    ends = read_json_object(out / "generation_config.json")["eos_token_id"]
    end_of_turn = tokenizer.convert_tokens_to_ids(end)
    assert end_of_turn in (ends if isinstance(ends, list) else [ends])
    choice = PromptChoice.of(read_json_object(out / "run.json")["config"])
    assert choice.prompt == "chat"

    said = run(*sample_words(tmp_path, data, "samples"))[1]  # with the options of the training
    assert "warning" not in said
    for one in read_samples(tmp_path / "samples"):
        assert (one.completion.strip(), one.finish_reason) == (ANSWER, "stop")
    manifest = read_json_object(tmp_path / "samples/manifest.json")
    assert PromptChoice.of(manifest).is_same(choice)
    assert manifest["prompt_template"] == ChatPrompt(tokenizer, choice).text("{question}")


def test_another_prompt_than_the_trained_one_is_a_warning_with_both(
    tmp_path: Path, run: Run
) -> None:
    write_chat_model("qwen2_5", tmp_path / "base")
    data = write_data(tmp_path)
    run(*train_words(tmp_path, data), *FEW, "--system_prompt", "Be brief.")
    trained = "was trained with --prompt chat --system_prompt 'Be brief.', but is sampled with "
    for number, (asked, named) in enumerate(
        {
            ("--prompt", "alpaca"): "--prompt alpaca\n",
            (
                "--prompt",
                "chat",
                "--system_prompt",
                "Think.",
            ): "--prompt chat --system_prompt Th",
            ("--prompt", "chat", "--system_prompt", ""): "--prompt chat\n",
            ("--prompt", "icl", "--n_shots", "1"): "--prompt icl\n",
        }.items()
    ):
        said = run(*sample_words(tmp_path, data, f"s{number}"), *asked)[1]
        assert trained + named in said
    # auto continues the store as it was begun, and another prompt is refused
    assert trained + "--prompt alpaca" in run(*sample_words(tmp_path, data, "s0"))[1]
    with pytest.raises(UserError, match="prompt was 'alpaca', now 'chat'"):
        run(*sample_words(tmp_path, data, "s0"), "--prompt", "chat")


def test_a_model_trained_on_alpaca_rows_stays_with_them(tmp_path: Path, run: Run) -> None:
    write_chat_model("qwen2_5", tmp_path / "base")
    data = write_data(tmp_path)
    run(*train_words(tmp_path, data), *FEW, "--prompt", "alpaca")
    assert "prompt" not in read_json_object(tmp_path / "out/training.json")  # as in old versions
    assert "already trained" in run(*train_words(tmp_path, data), *FEW)[0]
    with pytest.raises(UserError, match="prompt was 'alpaca', now 'chat'"):
        run(*train_words(tmp_path, data), *FEW, "--prompt", "chat")
    assert "prompt:" not in run(*sample_words(tmp_path, data, "s1"))[1]
    assert read_json_object(tmp_path / "s1/manifest.json")["prompt"] == "alpaca"
    (tmp_path / "out/run.json").unlink()  # the saved template says the same
    assert "prompt:" not in run(*sample_words(tmp_path, data, "s2"))[1]
    said = run(*sample_words(tmp_path, data, "s3"), "--prompt", "chat")[1]
    assert "was trained with --prompt alpaca, but is sampled with --prompt chat" in said


def test_a_rewritten_row_is_refused_with_its_line(tmp_path: Path, run: Run) -> None:
    write_chat_model("qwen3", tmp_path / "base")
    data = write_data(tmp_path, f"<think>3 bags</think>{ANSWER}")
    with pytest.raises(UserError) as caught:
        run(*train_words(tmp_path, data))
    assert str(caught.value).startswith(f"{data}:1: the chat template of")
    assert "<think>\\n3 bags" in str(caught.value)
    assert str(caught.value).endswith("(4 such rows)")


def test_control_tokens_in_the_text_are_a_warning(tmp_path: Path, run: Run) -> None:
    write_chat_model("qwen2_5", tmp_path / "base")
    data = write_data(tmp_path, f"1+2 <|im_end|> {ANSWER}")
    shown, said = run(*train_words(tmp_path, data), "--dry_run", "--verbose")
    assert "4 rows hold the text of special tokens (<|im_end|>), which become control tok" in said
    assert shown.count("'<|im_end|>'") == 4  # system, question, in the answer, and its end


def test_the_dry_runs_show_the_rows(tmp_path: Path, run: Run) -> None:
    write_chat_model("qwen3", tmp_path / "base")
    data = write_data(tmp_path)
    shown, said = run(*train_words(tmp_path, data), "--dry_run", "--verbose")
    assert "writes '<think>\\n\\n</think>\\n\\n' before the response of 4 rows" in said
    rows = [line for line in shown.splitlines() if line.startswith("  * ")]
    assert "'<think>'" in rows[0]
    assert "'<|im_end|>'" in rows[-1]
    assert "prompt: chat" in shown
    words = [*sample_words(tmp_path, data, "s"), "--dry_run"]
    shown, _ = run(*words, "--model_name_or_path", tmp_path / "base")
    assert f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n" in shown


@pytest.mark.slow
def test_the_commands_of_the_page_run_in_order(
    tmp_path: Path, tiny_model: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models and data are small ones here, and trainings longer, so that samples are right."""
    shutil.copytree(tiny_model, tmp_path / "models/base")
    write_chat_model("qwen2_5", tmp_path / "models/chat")
    write_chat_model("qwen3", tmp_path / "models/thinking")
    (tmp_path / "data").mkdir()
    data = write_data(tmp_path)
    for name in ("train_use", "test_use"):
        shutil.copy(data, tmp_path / f"data/{name}.jsonl")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    commands = "".join(blocks).splitlines()
    assert len(commands) == 12
    more = {"train.py": TRAIN, "sample.py": ("--engine", "transformers", "--precision", "fp32")}
    few = ("--n_shots", "1", "--max_new_tokens", "8")
    shown = {}
    for command in commands:
        _, script, *words = shlex.split(command)
        extra: tuple[object, ...] = () if "--doctor" in words else more.get(script, ())
        shown[command], _ = run(script, *words, *extra, *(few if "icl" in words else ()))
    assert "*" in shown[commands[0]]
    assert "100.0" in next(text for command, text in shown.items() if "eval.py" in command)
    for name, prompt in {"sft_samples": "chat", "brief_greedy": "chat", "base_icl": "icl",
                         "base_sft_greedy": "alpaca"}.items():  # fmt: skip
        assert read_json_object(Path("runs", name, "manifest.json"))["prompt"] == prompt


def test_a_chat_server_prompts_as_in_training(tmp_path: Path, run: Run) -> None:
    write_chat_model("qwen3", tmp_path / "base")
    data = write_data(tmp_path)
    arguments = '{"enable_thinking": false}'
    words = ("--system_prompt", "Be brief.", "--chat_template_kwargs", arguments)
    run(*train_words(tmp_path, data), *FEW, *words)
    served: Any = AutoTokenizer.from_pretrained(tmp_path / "out")
    roles = {"system": "Be brief.", "user": QUESTION}
    messages = [{"role": role, "content": text} for role, text in roles.items()]
    prompt = ChatPrompt(
        load_tokenizer(str(tmp_path / "out")), PromptChoice("chat", words[1], arguments)
    )
    assert prompt.ids(QUESTION) == served.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False, enable_thinking=False
    )
