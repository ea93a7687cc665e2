"""Where a run computes, and in what precision."""

import torch

from statland.settings import SettingError


def prepare_process(threads: int) -> None:
    """Set what holds for the process as such, for speed alone.

    A vanishing gradient spends its days among subnormal numbers, below 1e-38, on which a processor
    is some hundred times slower. They count as 0 instead.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def seed_step(device: torch.device, seed: int, step: int) -> None:
    """Let what a step draws, for dropout say, depend on (seed, step) alone, as its batch does.

    So a resumed run draws what it would have drawn. torch.manual_seed, which sees to every device,
    would take 0.1 ms.
    """
    mixed = hash((seed, step))  # of numbers: the same in every process
    if device.type == "cuda":
        torch.cuda.manual_seed(mixed)
    elif device.type == "mps":
        torch.mps.manual_seed(mixed)
    else:
        torch.default_generator.manual_seed(mixed)


def device_of(name: str) -> torch.device:
    """The device of that name; auto is the fastest that there is."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    names = [device for device, is_available in available.items() if is_available]
    if name == "auto":
        return torch.device(names[0])
    if not available[name]:
        raise SettingError(
            f"device is {name!r}, which is not here; allowed: {', '.join(['auto', *names])}"
        )
    return torch.device(name)
