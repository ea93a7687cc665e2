"""A sweep that grows: Hydra's basic sweeper, without the jobs whose run has ended before.

Hydra finds this module by its folder. It is the only one that may import `hydra._internal`.
"""

from collections.abc import Sequence
from itertools import count
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, run_job
from omegaconf import open_dict

from statland.settings import SettingError


class StatlandSweeper(BasicSweeper):
    """Launches every combination of the overrides whose run has not ended yet."""

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs that are left to do, and print a table of all runs in the sweep's folder."""
        from statland.command.compose import plain  # not above: --help should not wait for torch
        from statland.command.sweep import Job, Sweep

        base, context, launcher = self.config, self.hydra_context, self.launcher
        assert base is not None
        assert context is not None
        assert launcher is not None
        if any(key.lstrip("+") == "trust" for key in self.params):
            raise SettingError("trust is set by a preset; allowed: on the command line")
        loader = context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        _ = base.hydra.sweep.dir  # ${now:} is resolved here, once, and kept for all jobs
        jobs = self.split_arguments(overrides, None)[0]

        def composed(number: int, texts: list[str]) -> Job:
            config = loader.load_sweep_config(base, texts)
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = number
            HydraConfig.instance().set_config(config)  # for interpolations of the form ${hydra:...}
            return Job(texts, config, plain(config), Path(config.hydra.sweep.dir))

        def launched(batch: list[Job], first: int) -> Sequence[JobReturn]:
            if not isinstance(launcher, BasicLauncher):
                name = HydraConfig.get().runtime.choices["hydra/launcher"]
                print(f"waiting for {len(batch)} jobs, handed to {name}", flush=True)
                return launcher.launch([job.overrides for job in batch], first)
            # It would compose each job once more, which takes a fifth of a second.
            assert launcher.task_function is not None
            keys = "hydra.sweep.dir", "hydra.sweep.subdir"
            return [run_job(launcher.task_function, job.config, *keys, context) for job in batch]

        sweep, first = Sweep(map(composed, count(), jobs), len(jobs)), 0
        size = 1 if isinstance(launcher, BasicLauncher) else self.max_batch_size
        for batch in sweep.batches(size):
            for result in launched(batch, first):
                _ = result.return_value  # raises what the job has raised
            first += len(batch)
        sweep.finish()
