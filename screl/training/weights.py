"""Read a checkpoint in slices, so that a process reads only the part of a weight that it holds.

transformers' own ``from_pretrained`` would read the whole model on every process or, if one process
reads for all, let the others wait and take the whole model of that machine's memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch.distributed.tensor import DTensor
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from screl.models.loading import Model
from screl.models.weight_headers import weight_files

SLICE_VALUES = 2**24  # values in memory at once: 64 MB in float32


@dataclass(frozen=True)
class StoredWeights:
    """The weights in a checkpoint's safetensors: their files and shapes, by name."""

    files: dict[str, Path]
    shapes: dict[str, tuple[int, ...]]

    def fill(self, name: str, target: torch.Tensor, start: int) -> None:
        """Copy the values from number ``start`` on, row by row, into the flat ``target``.

        They get its precision. Rows beyond the stored ones get the mean of these, as
        ``fit_vocabulary`` sets them.
        """
        width = prod(self.shapes[name][1:])
        stop = min(start + len(target), self.shapes[name][0] * width)
        for at, rows in self._slices(name, start // width, -(-stop // width)):
            first, values = at * width, rows.flatten()
            low, high = max(start, first), min(stop, first + len(values))
            target[low - start : high - start] = values[low - first : high - first]
        if stop < start + len(target):
            grown = torch.arange(max(start, stop), start + len(target))
            target[grown - start] = self._mean(name).flatten()[grown % width].to(target)

    def _slices(self, name: str, start: int, stop: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield rows ``start`` to ``stop`` in pieces, each with the number of its first row."""
        step = max(1, SLICE_VALUES // prod(self.shapes[name][1:]))
        for at in range(start, stop, step):
            # Opened for each piece: an open file keeps all pages that were read in memory.
            with safe_open(self.files[name], framework="pt") as file:
                yield at, file.get_slice(name)[at : min(at + step, stop)]

    def _mean(self, name: str) -> torch.Tensor:
        """Return the mean of all stored rows."""
        total = torch.zeros(self.shapes[name][1:], dtype=torch.float64)
        for _, rows in self._slices(name, 0, self.shapes[name][0]):
            total += rows.sum(dim=0, dtype=torch.float64)
        return total / self.shapes[name][0]


def find_weights(name: str, model: Model) -> StoredWeights | str:
    """Return the stored weights of ``model``, or why it cannot be read in slices.

    The vocabulary of ``model``, which may be on meta, may have grown already.
    """
    folder = Path(name) if Path(name).exists() else _downloaded(name)
    stored = StoredWeights({}, {})
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a dict
                stored.files[key] = path
                stored.shapes[key] = tuple(file.get_slice(key).get_shape())
    if not stored.files:
        return "it has no safetensors"
    if get_checkpoint_conversion_mapping(model.config.model_type):
        return "its stored weights have other names than the model's"
    may_grow = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    for key, weight in model.named_parameters():
        found, needed = stored.shapes.get(key), tuple(weight.shape)
        grown = found and id(weight) in may_grow and found[0] < needed[0]
        if found is None or found[1:] != needed[1:] or (found[0] != needed[0] and not grown):
            return f"{key} is not stored under this name and in this shape"
    return stored


def _downloaded(name: str) -> Path:
    """Return the folder of a hub model's safetensors, downloaded once per machine."""
    return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))


@torch.no_grad()
def read_weights(model: Model, stored: StoredWeights) -> None:
    """Fill this process's part of every weight."""
    for name, weight in model.named_parameters():
        stored.fill(name, *_part(weight))


def _part(weight: Any) -> tuple[torch.Tensor, int]:
    """Return the values of a weight that this process holds, flat, and the number of the first."""
    if isinstance(weight, DTensor):  # divided by rows over the last dimension of its mesh
        mesh = weight.device_mesh
        rows_each = -(-weight.shape[0] // mesh.size(mesh.ndim - 1))
        first = rows_each * mesh.get_local_rank(mesh.ndim - 1)
        return weight.to_local().view(-1), first * prod(weight.shape[1:])
    if hasattr(weight, "ds_tensor"):  # divided by DeepSpeed's zero3, with padding at the end
        first = len(weight.ds_tensor) * weight.ds_zero_partition_rank
        return weight.ds_tensor[: max(0, weight.ds_numel - first)], first
    return weight.view(-1), 0
