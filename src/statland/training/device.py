"""Where a run computes, and in what precision."""

import torch

from statland.settings import SettingError


def prepare_process(threads: int) -> None:
    """Set the number of threads, and let subnormal numbers, below 1e-38, count as 0.

    A vanishing gradient spends its days among them, where a processor is a hundred times slower.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def seed_step(device: torch.device, seed: int, step: int) -> None:
    """Make what a step draws, for dropout say, depend on (seed, step) alone, as its batch does.

    So a resumed run draws what it would have drawn. torch.manual_seed would take 0.1 ms: it seeds
    every device.
    """
    is_cpu = device.type == "cpu"
    generator = torch.default_generator if is_cpu else torch.get_device_module(device)
    generator.manual_seed(hash((seed, step)))  # of numbers: the same in every process


def device_of(name: str) -> torch.device:
    """Return the device of that name; auto is the fastest. Raises SettingError if it is absent."""
    is_here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    names = [*(device for device in is_here if is_here[device]), "cpu"]
    if name != "auto" and name not in names:
        allowed = ", ".join(["auto", *names])
        raise SettingError(f"device is {name!r}, which is not here; allowed: {allowed}")
    return torch.device(names[0] if name == "auto" else name)
