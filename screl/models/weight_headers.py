"""What weights a checkpoint holds, from the headers of its files: nothing is loaded."""

import re
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from screl.core.io import UserError, read_json_object
from screl.models.loading import Model

TensorShape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Headers:
    """Shape of every tensor and number of tensors of every dtype (F32, BF16) in so many files."""

    shapes: dict[str, TensorShape]
    dtypes: Counter[str]
    n_files: int

    @property
    def n_values(self) -> int:
        """Numbers in all tensors together."""
        return sum(map(prod, self.shapes.values()))


def read_headers(folder: Path) -> Headers | None:
    """The headers of a local checkpoint's safetensors; None without such files.

    UserError for a file that is missing or torn.
    """
    files = weight_files(folder)
    if not files:
        return None
    headers = Headers({}, Counter(), len(files))
    for path in files:
        try:
            with safe_open(path, framework="np") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - it is no dict
                    part = tensors.get_slice(name)
                    headers.shapes[name] = tuple(part.get_shape())
                    headers.dtypes[part.get_dtype()] += 1
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{path}: damaged or missing ({error}); copy or save it again"
            ) from None
    return headers


def weight_files(folder: Path) -> list[Path]:
    """The safetensors that transformers would load."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return sorted({folder / name for name in read_json_object(index)["weight_map"].values()})
    return [path for path in [folder / "model.safetensors"] if path.is_file()]


def compare_weights(headers: Headers, model: Model) -> list[str]:
    """What is wrong with the weights of a checkpoint for its ``model``, which may be on meta."""
    needed = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    tied = model.all_tied_weights_keys  # the name that may be missing: the one that is there
    n_needed = sum(prod(shape) for name, shape in needed.items() if name not in tied)
    if headers.n_values < n_needed / 2:
        return [
            f"the weight files hold {headers.n_values:,} values, the config asks for "
            f"{n_needed:,}: a bad save, as of ZeRO-3 without gathering; save or copy it again"
        ]
    if get_checkpoint_conversion_mapping(model.config.model_type):  # renamed on loading
        return []
    return [
        *_listed("missing", needed.keys() - headers.shapes.keys() - tied.keys(), "would be random"),
        *_listed(
            "not of this model",
            {name for name in headers.shapes.keys() - needed.keys() if not _is_obsolete(name)},
            "would be ignored",
        ),
        *_listed(
            "of another shape than config.json says",
            {name for name, shape in headers.shapes.items() if needed.get(name, shape) != shape},
            "cannot be loaded",
        ),
    ]


def _listed(what: str, names: set[str], then: str) -> list[str]:
    if not names:
        return []
    return [
        f"{len(names)} weights are {what} and {then} (first: {min(names)}); config.json and "
        "weights must be of one checkpoint: copy or save both again"
    ]


def _is_obsolete(name: str) -> bool:
    """Tables of old LLaMA checkpoints, which transformers computes by itself."""
    return re.search(r"rotary_emb\.inv_freq$", name) is not None
