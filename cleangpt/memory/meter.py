"""Count the bytes of tensors that are alive while operations run, real ones or fake ones."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Kind = Callable[["Meter", Any, Any, Tensor], str]  # of what an operation with such arguments made


class Meter(TorchDispatchMode):
    """Bytes by kind, now and when they were most. `kind` names that of what an operation made; others are marked."""

    def __init__(self, kind: Kind):
        super().__init__()
        self.kind = kind
        self.now: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.peak = 0
        self.sent = 0.0  # bytes, by collectives
        self._alive: dict[int, tuple[str, int]] = {}
        self._resize: Any = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or else torch loads its compiler, to tell it so

    def __enter__(self) -> "Meter":
        meter, real = self, torch.UntypedStorage.resize_
        self._resize = real

        def resize_(storage: torch.UntypedStorage, size: int) -> Any:  # how torch's FSDP forgets gathered weights
            result = real(storage, size)
            if id(storage) in meter._alive:
                meter._change(id(storage), "gathered", int(size))
            return result

        storages: Any = torch.UntypedStorage
        storages.resize_ = resize_
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        storages: Any = torch.UntypedStorage
        storages.resize_ = self._resize
        super().__exit__(*error)

    def mark(self, tensors: Iterable[Tensor], kind: str) -> None:
        """Say what kind these are, whenever they were made."""
        for tensor in tensors:
            self._see(getattr(tensor, "_local_tensor", tensor), kind, again=True)

    def forget(self) -> None:
        """Leave out all that is there now."""
        self._alive.clear()
        self.now.clear()

    def begin(self) -> None:
        """Forget the peak so far."""
        self.peak, self.most = 0, {}
        self._note()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if func.namespace in ("c10d", "_c10d_functional"):
            self._send(func.overloadpacket.__name__, args)
        for tensor in made:
            self._see(tensor, self.kind(self, func, args, tensor))
        return result

    def kind_of(self, tensor: Tensor) -> str | None:
        """Name the kind of a tensor that was seen."""
        known = self._alive.get(id(tensor.untyped_storage()))
        return known[0] if known else None

    def _send(self, name: str, args: Any) -> None:
        """Count what this process sends if all pass on parts in a ring."""
        tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
        groups = [leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.ScriptObject)]
        count = next((group.size() for group in groups if hasattr(group, "size")), dist.get_world_size())
        largest = max((tensor.numel() * tensor.element_size() for tensor in tensors), default=0)
        self.sent += (2 if "allreduce" in name or "all_reduce" in name else 1) * largest * (count - 1) / count

    def _see(self, tensor: Tensor, kind: str, again: bool = False) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self._alive:
            weakref.finalize(storage, self._gone, key)
        elif not again:
            return
        self._change(key, kind, int(storage.nbytes()))

    def _change(self, key: int, kind: str, size: int) -> None:
        self._forget(key)
        self._alive[key] = kind, size
        self.now[kind] = self.now.get(kind, 0) + size
        self._note()

    def _gone(self, key: int) -> None:
        self._forget(key)
        self._alive.pop(key, None)

    def _forget(self, key: int) -> None:
        if key in self._alive:
            kind, size = self._alive[key]
            self.now[kind] -= size

    def _note(self) -> None:
        total = sum(self.now.values())
        if total > self.peak:
            self.peak, self.most = total, dict(self.now)
