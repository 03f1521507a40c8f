"""Training on one or several processes with torch's own ``fully_shard``: none, ddp and fsdp.

The three are one mechanism with different meshes: the weights of a process are float32 masters,
of which a copy in the precision of the arithmetic is made when a layer runs. ``ddp`` divides
nothing, ``fsdp`` divides weights, gradients and optimizer state among the processes. It is the same
on CPUs and on GPUs, so what tests run is what a cluster runs.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from screl.models.loading import Model
from screl.training.model import Batch, PackedLM


class TorchEngine:
    """A model, its optimizer, and how both are divided among processes."""

    def __init__(
        self,
        make_model: Callable[[torch.device], Model],
        sharding: str,
        precision: str,
        device: torch.device,
        optimizer_settings: dict[str, Any],
        max_grad_norm: float,
    ) -> None:
        """``make_model(device)`` gives the model, on the meta device for all processes but the
        first, whose weights the others get."""
        first = dist.get_rank() == 0
        model = make_model(torch.device("cpu" if first else "meta"))
        self.packed = PackedLM(model)
        self.device = device
        self.max_grad_norm = max_grad_norm or math.inf  # 0: not clipped, as in DeepSpeed
        shard_model(self.packed, sharding, precision, device)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.packed), fused=True, **optimizer_settings
        )

    def loss(self, batch: Batch) -> torch.Tensor:
        """That of a batch on this process's device."""
        loss: torch.Tensor = self.packed(batch)
        return loss

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add the gradients of ``loss``; those of all processes are summed."""
        # fully_shard takes the mean over processes
        (loss * dist.get_world_size()).backward()

    def step(self, learning_rate: float) -> float:
        """Clip, update and forget the gradients; return their norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self.packed.parameters(), self.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(whole(norm))

    def learning_rate(self) -> float:
        """That of the running optimizer."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def save(self, folder: Path) -> None:
        """Write weights and optimizer, every process its part."""
        state_dict_saver.save(self._state(), checkpoint_id=folder)

    def load(self, folder: Path) -> None:
        """Go on from what ``save`` wrote, on any number of processes."""
        state = self._state()
        state_dict_loader.load(state, checkpoint_id=folder)
        set_state_dict(
            self.packed, self.optimizer,
            model_state_dict=state["model"], optim_state_dict=state["optimizer"],
        )  # fmt: skip

    def _state(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.packed, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The float32 master weights by name, whole, one after the other; all processes must ask
        for them."""
        for name, weight in self.packed.model.named_parameters():
            yield name, whole(weight.detach())

    def n_weights(self) -> int:
        """Of the whole model."""
        return sum(weight.numel() for weight in self.packed.parameters())

    def numbers_held(self) -> dict[str, int]:
        """How many numbers this process holds, of weights, gradients and optimizer state."""
        weights = list(self.packed.parameters())
        moments = [
            value
            for state in self.optimizer.state.values()
            for value in state.values()
            if value.dim() > 0
        ]
        return {
            "weights": sum(local(weight).numel() for weight in weights),
            "gradients": sum(local(w.grad).numel() for w in weights if w.grad is not None),
            "optimizer": sum(local(moment).numel() for moment in moments),
        }


def shard_model(packed: PackedLM, sharding: str, precision: str, device: torch.device) -> None:
    """Divide the weights layer by layer: no process holds more than one layer beyond its part."""
    world_size = dist.get_world_size()
    if sharding == "fsdp":
        mesh = init_device_mesh(device.type, (world_size,))
    else:  # copies on all processes, each divided into one part
        mesh = init_device_mesh(device.type, (world_size, 1), mesh_dim_names=("copy", "part"))
    bf16 = precision == "bf16"
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,  # it would round the weights in the loss
    )
    model = packed.model
    for module in model.modules():
        if type(module).__name__ in (model._no_split_modules or ()):  # the transformer's layers
            divide(module, device)
            # What is not divided need not be given back after the forward pass.
            fully_shard(
                module, mesh=mesh, mp_policy=policy, reshard_after_forward=sharding == "fsdp"
            )
    divide(model, device)
    model.tie_weights()
    fully_shard(packed, mesh=mesh, mp_policy=policy)
    put_buffers(model, model, device)


def divide(module: nn.Module, device: torch.device) -> None:
    """Put the first process's weights, in float32, on every process's device."""
    for name, weight in list(module.named_parameters()):
        if isinstance(weight, DTensor):  # of a layer that is divided already
            continue
        full = torch.empty(weight.shape, dtype=torch.float32, device=device)
        if dist.get_rank() == 0:
            full.copy_(weight)
        dist.broadcast(full, src=0)
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, nn.Parameter(full))


def put_buffers(source: nn.Module, target: nn.Module, device: torch.device) -> None:
    """Give ``target`` the buffers of ``source`` (the frequencies of the rotary embedding)."""
    for name, buffer in list(source.named_buffers()):
        owner, _, attribute = name.rpartition(".")
        setattr(target.get_submodule(owner), attribute, buffer.to(device))


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Matrices decay, norms and biases do not (as in transformers' Trainer)."""
    weights = list(module.parameters())
    flat = [len(getattr(weight, "ds_shape", weight.shape)) < 2 for weight in weights]
    return [  # ds_shape: divided by DeepSpeed's zero3, a weight has no shape of its own
        {"params": [weight for weight, is_flat in zip(weights, flat, strict=True) if not is_flat]},
        {
            "params": [weight for weight, is_flat in zip(weights, flat, strict=True) if is_flat],
            "weight_decay": 0.0,
        },
    ]


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A divided tensor put together; another one as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
