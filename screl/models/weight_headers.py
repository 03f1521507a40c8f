"""Compare a checkpoint's weights with its model by the file headers, without loading weights."""

import re
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.conversion_mapping import get_model_conversion_mapping

from screl.core.io import UserError, read_json_object
from screl.models.loading import Model

# Tables in old LLaMA checkpoints that transformers computes itself.
OBSOLETE = re.compile(r"rotary_emb\.inv_freq$")


@dataclass(frozen=True, slots=True)
class Headers:
    """The shape of every tensor in a checkpoint, and the number of tensors by dtype (F32, BF16)."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: Counter[str]
    n_files: int

    @property
    def n_values(self) -> int:
        """The number of values in all tensors together."""
        return sum(map(prod, self.shapes.values()))


def read_headers(folder: Path) -> Headers | None:
    """Return the headers of a local checkpoint's safetensors; None without such files.

    Raises UserError for a missing or damaged file.
    """
    files = weight_files(folder)
    if not files:
        return None
    headers = Headers({}, Counter(), len(files))
    for path in files:
        try:
            with safe_open(path, framework="np") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - not a dict
                    part = tensors.get_slice(name)
                    headers.shapes[name] = tuple(part.get_shape())
                    headers.dtypes[part.get_dtype()] += 1
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{path}: damaged or missing ({error}); copy or save it again"
            ) from None
    return headers


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors that transformers would load."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return sorted({folder / name for name in read_json_object(index)["weight_map"].values()})
    return [path for path in [folder / "model.safetensors"] if path.is_file()]


def compare_weights(headers: Headers, model: Model) -> list[str]:
    """Return the faults of a checkpoint's weights for ``model`` (which may be on meta)."""
    needed = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    tied = model.all_tied_weights_keys  # the weights that may be missing
    n_needed = sum(prod(shape) for name, shape in needed.items() if name not in tied)
    if headers.n_values < n_needed / 2:
        return [
            f"the weight files hold {headers.n_values:,} values, the config asks for "
            f"{n_needed:,}: a bad save, as of ZeRO-3 without gathering; save or copy it again"
        ]
    if get_model_conversion_mapping(model, add_legacy=False):  # weights renamed on loading
        return []
    found = headers.shapes
    missing = needed.keys() - found.keys() - tied.keys()
    extra = {name for name in found.keys() - needed.keys() if not OBSOLETE.search(name)}
    misshapen = {name for name, shape in found.items() if needed.get(name, shape) != shape}
    return [
        *_listed(missing, "missing and would be random"),
        *_listed(extra, "not of this model and would be ignored"),
        *_listed(misshapen, "of another shape than config.json says and cannot be loaded"),
    ]


def _listed(names: set[str], fault: str) -> list[str]:
    if not names:
        return []
    weights = "1 weight is" if len(names) == 1 else f"{len(names)} weights are"
    return [
        f"{weights} {fault} (first: {min(names)}); config.json and weights must come from one "
        "checkpoint: copy or save both again"
    ]
