"""A sweep that grows: Hydra's basic sweeper, without the jobs whose run has ended before.

Hydra finds this module by its folder. It is the only one that may import `hydra._internal`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, run_job
from omegaconf import DictConfig, open_dict

from statland.settings import SettingError


class StatlandSweeper(BasicSweeper):
    """Launches every combination of the overrides whose run has not ended yet."""

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs that are left to do, and print a table of all runs in the sweep's folder."""
        from statland.command.compose import plain  # not above: --help should not wait for torch
        from statland.command.sweep import Job, Sweep

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        if any(key.lstrip("+") == "trust" for key in self.params):
            raise SettingError("trust is set by a preset; allowed: on the command line")
        loader, master = self.hydra_context.config_loader, self.config
        parser = OverridesParser.create(config_loader=loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        _ = self.config.hydra.sweep.dir  # ${now:} is resolved here, once, and kept for all jobs
        jobs = self.split_arguments(overrides, None)[0]

        def composed(numbered: tuple[int, list[str]]) -> Job:
            config = loader.load_sweep_config(master, numbered[1])
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = numbered[0]
            HydraConfig.instance().set_config(config)  # for interpolations of the form ${hydra:...}
            return Job(numbered[1], config, plain(config), Path(config.hydra.sweep.dir))

        sweep, first = Sweep(map(composed, enumerate(jobs)), len(jobs)), 0
        is_basic = isinstance(self.launcher, BasicLauncher)
        for batch in sweep.batches(1 if is_basic else self.max_batch_size):
            if is_basic:  # it would compose the job once more, which takes a fifth of a second
                results: Sequence[JobReturn] = [self._run(job.config) for job in batch]
            else:
                results = self.launcher.launch([job.overrides for job in batch], first)
            for result in results:
                _ = result.return_value  # raises what the job has raised
            first += len(batch)
        sweep.finish()

    def _run(self, config: DictConfig) -> JobReturn:
        """Run a job in this process, as the basic launcher does."""
        launcher: Any = self.launcher
        return run_job(
            hydra_context=launcher.hydra_context,
            task_function=launcher.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
