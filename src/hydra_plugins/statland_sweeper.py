"""A sweep that grows: Hydra's basic sweeper, without the jobs whose run has ended before.

Hydra finds this module by its folder. It is the only one that may import `hydra._internal`.
"""

from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser

from statland.settings import SettingError


class StatlandSweeper(BasicSweeper):
    """Launches every combination of the overrides whose run has not ended yet."""

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs that are left to do, and print a table of all runs in the sweep's folder."""
        from statland.command.compose import plain  # not above: --help should not wait for torch
        from statland.command.sweep import Job, begin, finish

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        if any(key.lstrip("+") == "trust" for key in self.params):
            raise SettingError("trust is set by a preset; allowed: on the command line")
        loader = self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        jobs = []
        _ = self.config.hydra.sweep.dir  # ${now:} is resolved here, once, and kept for all jobs
        for texts in self.split_arguments(overrides, None)[0]:
            config = loader.load_sweep_config(self.config, texts)
            HydraConfig.instance().set_config(config)  # for interpolations of the form ${hydra:...}
            jobs.append(Job(texts, plain(config), Path(config.hydra.sweep.dir)))
        left = begin(jobs)
        # A launch keeps the configs of its jobs in memory until it ends.
        size = 1 if isinstance(self.launcher, BasicLauncher) else self.max_batch_size
        first = 0
        for batch in self.split_overrides_to_chunks(left, size) if left else ():
            for result in self.launcher.launch(batch, initial_job_idx=first):
                _ = result.return_value  # raises what the job has raised
            first += len(batch)
        finish(jobs)
