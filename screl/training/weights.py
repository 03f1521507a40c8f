"""Read a checkpoint in slices, so that a process reads only the rows of a weight that it holds.

transformers' own ``from_pretrained`` would read the whole model on every process or, if one process
reads for all, let the others wait and take the whole model of that machine's memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

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
        """Copy the stored rows from ``start`` on into ``target``, in its precision.

        Rows beyond the stored ones get the mean of these, as ``fit_vocabulary`` sets them.
        """
        stored = max(0, min(len(target), self.shapes[name][0] - start))
        for at, rows in self._slices(name, start, start + stored):
            target[at - start : at - start + len(rows)] = rows
        if stored < len(target):
            target[stored:] = self._mean(name)

    def _slices(self, name: str, start: int, stop: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield rows ``start`` to ``stop`` in pieces, each with the number of its first row."""
        step = max(1, SLICE_VALUES // max(1, prod(self.shapes[name][1:])))
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
        if isinstance(weight, DTensor):  # divided by rows over the last dimension of its mesh
            mesh = weight.device_mesh
            rows_each = -(-weight.shape[0] // mesh.size(mesh.ndim - 1))
            first = rows_each * mesh.get_local_rank(mesh.ndim - 1)
            stored.fill(name, weight.to_local(), first)
        else:
            stored.fill(name, weight, 0)
