"""The command line, `proxygrm`. Thin: each command calls one function elsewhere, heavy imports wait until then."""

from __future__ import annotations

import errno
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from jobs.cli.cluster import cluster
from jobs.cli.common import console
from jobs.cli.common.options import SCRIPT, request_options, reuse_option, sending_options
from jobs.cli.common.say import echo, guard_the_rest, secho
from jobs.cli.data import data
from jobs.cli.doctor import doctor
from jobs.cli.eval.main import evaluation
from jobs.cli.evaluate_here import evaluate
from jobs.cli.process import process
from jobs.cli.proxy import proxy
from jobs.cli.reward import reward
from jobs.cli.run import watch
from jobs.cli.run.clean import clean
from jobs.cli.serve_reward import serve_reward
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import FULL
from proxygrm.core.one_line import refuse_arguments
from slurm.commands import environment_kept

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Commands(click.Group):
    """Prints one line for what users can fix, files and disks included; everything else keeps its traceback."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Every option of every command comes by here, before any of them is looked at."""
        try:
            refuse_arguments(args)
        except UserError as error:
            _tell(_line(error), ctx)
            sys.exit(2)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        guard_the_rest()
        try:
            with environment_kept():
                return super().invoke(ctx)
        except UserError as error:
            _tell(_line(error), ctx)
            sys.exit(2)
        except OSError as error:
            if error.errno == errno.EPIPE or (error.filename is None and error.errno not in FULL):
                raise
            where = f"{error.filename}: " if error.filename is not None else ""
            _tell(f"{where}{error.strerror or error} (where in the program: proxygrm --debug ...)", ctx)
            sys.exit(2)
        except KeyboardInterrupt as stopped:
            echo(f"\n{console.in_full(str(stopped)) or 'interrupted'}", err=True)
            sys.exit(130)


def _line(error: UserError) -> str:
    """Message and code, as "... [settings.unknown-name]"."""
    return f"{error} [{error.code}]" if error.code else str(error)


def _tell(text: str, ctx: click.Context) -> None:
    if ctx.params.get("debug"):
        echo(traceback.format_exc(), err=True, nl=False)
    secho(f"proxygrm: {console.in_full(text)}", err=True, fg="red")


@click.group(cls=Commands, context_settings=CONTEXT, epilog="Start with:  make demo")
@click.option("--debug", is_flag=True, help="Show the traceback behind an error line.")
@click.version_option(package_name="proxygrm-suite", message="%(version)s")
def main(debug: bool) -> None:
    """Train generative reward models whose rubrics transfer, on a SLURM cluster.

    \b
    proxygrm demo     a small one from pairs to report, on this machine
    proxygrm plan     the stages of a recipe: what would run, and why
    proxygrm submit   what is missing, as SLURM jobs that wait for each other
    """


@main.command()
@click.argument("stages", nargs=-1)
@request_options
@reuse_option
@sending_options
@SCRIPT
@click.option("--redo", multiple=True, metavar="STAGE", help="Run this stage again although it is done.")
@click.option("--downloads", is_flag=True, help="Instead: the models and data it needs, and what fetches them.")
@click.option("--json", "as_json", is_flag=True, help="The downloads as JSON.")
def plan(
    stages: tuple[str, ...], script: bool, redo: tuple[str, ...], downloads: bool, as_json: bool, **options: Any
) -> None:
    """Say what a submit would do with each stage, and why. Sends nothing.

    \b
    proxygrm plan                                  the whole chain on the private local cluster
    proxygrm plan STAGE --profile h100 --nodes 4   a stage and whatever it still needs, on your H100s
    proxygrm plan chain --profile h100 --script    with the batch scripts and the files a submit would write
    proxygrm plan --profile h100 --downloads       models and data to fetch where there is internet

    Without --run it is the run that was written to last; what it was asked for before still holds, and options are
    added to it. With --profile or --recipe only what is typed holds.

    What the profile or the live scheduler forbids (nodes, walltime, GPUs that are not there) is refused here.
    """
    from jobs.cli.common.options import refuse_idle
    from jobs.cli.run import downloads as listing
    from jobs.cli.run import send

    refuse_idle("script redo hold after", "with --downloads", unless=not downloads)
    refuse_idle("as_json", "without --downloads", unless=downloads)
    if downloads:
        return listing.show(options, stages, as_json)
    send.plan(options, stages, script, redo)


@main.command()
@click.argument("stages", nargs=-1)
@request_options
@reuse_option
@sending_options
@click.option("--dry-run", is_flag=True, help="Same as `plan --script`: print everything, send nothing.")
@click.option("--redo", multiple=True, metavar="STAGE", help="Run this stage again although it is done.")
@click.option("--watch", is_flag=True, help="Stay and show progress until everything has ended.")
def submit(stages: tuple[str, ...], dry_run: bool, redo: tuple[str, ...], watch: bool, **options: Any) -> None:
    """Send every stage that is missing, chained by afterok. STAGES limits it to these and what they need.

    \b
    proxygrm submit chain --profile h100 --nodes 4 --run runs/first --watch
    proxygrm submit STAGE --profile h100 --hold --after 81231 --account lab --qos long
    proxygrm submit --run runs/second --reuse runs/first --set STAGE.learning_rate=1e-6

    Submitting again is safe: finished stages are skipped, queued ones are waited for. With --watch it exits with 2 when
    a stage did not end well.
    """
    from jobs.cli.run import send

    if dry_run:
        send.plan(options, stages, script=True, redo=redo)
    else:
        send.submit(options, stages, redo, watch)


@main.command()
@click.argument("spec", required=False)
@request_options
@reuse_option
@sending_options
@click.option(
    "--only",
    multiple=True,
    metavar="CELL",
    help="Of the spec only these cells; `*` is any text, `!NAME` leaves cells out.",
)
@click.option("--throttle", type=click.IntRange(1), default=None, help="Cells that train at a time.  [the spec's]")
@click.option("--dry-run", is_flag=True, help="Print the plan and the scripts, send nothing.")
@click.option("--watch", is_flag=True, help="Stay and show progress until everything has ended, then the table.")
@click.option("--table", is_flag=True, help="Only show the results so far, of SPEC or of the last ablation in --run.")
@click.option("--json", "as_json", is_flag=True, help="That table as JSON.")
def ablate(
    spec: str | None,
    only: tuple[str, ...],
    throttle: int | None,
    dry_run: bool,
    watch: bool,
    table: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train and evaluate every cell of SPEC: all RLs one job array, then all evaluations.

    \b
    proxygrm ablate                                              the shipped specs
    proxygrm ablate aggregation --profile h100 --nodes 2         eleven RL runs, eight at a time
    proxygrm ablate my.toml --run runs/mine --watch
    proxygrm ablate --table --run runs/mine                      mean and spread over seeds

    Cells share every stage they do not differ in. Cells that are done are skipped; submitting again runs the failed
    ones alone.
    """
    from jobs.cli.common.options import refuse_idle
    from jobs.cli.run import ablate as ablating
    from jobs.cli.run import send
    from jobs.engine.sweep import last_stages
    from jobs.recipes import read_spec

    sending = "profile recipe nodes assignments partition account qos reservation reuse hold after"
    refuse_idle(f"only throttle dry_run watch {sending}", "with a table of results", unless=not (table or as_json))
    refuse_idle(f"only throttle dry_run watch run {sending}", "without SPEC", unless=spec or table or as_json)
    refuse_idle("watch", "with --dry-run, which sends nothing", unless=not dry_run)
    if table or as_json:
        return ablating.show_table(options["run"], Path(spec or "").stem, as_json)
    if spec is None:
        return ablating.list_shipped()
    recipe = console.recipe_of(options)
    whole, part = read_spec(recipe, spec), last_stages(read_spec(recipe, spec, only), recipe) if only else ()
    options |= {"ablation": whole.cells, "ablation_name": whole.name, "throttle": throttle or whole.throttle}
    options["sweep"] = whole.sweep
    if dry_run:
        send.plan(options, part, script=True, redo=())
        return

    def show(folder: Path) -> None:
        if recipe.sweep_of(whole.sweep).table:
            ablating.show_table(folder, whole.name, as_json=False)

    send.submit(options, part, (), watch, at_the_end=show)


@main.command("run-stage")
@click.argument("stage")
@request_options
def run_stage(stage: str, **options: Any) -> None:
    """Run one stage inside the allocation you are in; slurm/templates/*.sbatch call it, one task per node.

    The stage refuses to start until everything it needs is done, and is skipped when it is done itself.
    """
    from jobs.cli.run import by_hand

    by_hand.run_stage(options, stage)


@main.command()
@click.option("--run", type=click.Path(path_type=Path), help="Run folder.  [runs/demo, or runs/demo-RECIPE]")
@click.option("--recipe", default="proxy_grm", show_default=True, help="Recipe whose demo preset runs.")
@click.option("--quick", is_flag=True, help="A few steps of everything: shows that it works, not that it learns.")
@click.option("--prepare-only", is_flag=True, help="Only draw the data and build the tiny model.")
@reuse_option
def demo(run: Path | None, recipe: str, quick: bool, prepare_only: bool, reuse: tuple[Path, ...]) -> None:
    """The whole chain on this machine: a private SLURM, drawn images, a tiny Qwen2.5-VL; about 15 minutes."""
    from jobs.cli.run import demo as demonstration

    demonstration.run(run, recipe, quick, prepare_only, reuse)


main.add_command(clean)
for command in watch.COMMANDS:
    main.add_command(command)
main.add_command(cluster)
main.add_command(data)
main.add_command(doctor)
main.add_command(reward)
main.add_command(evaluation)
main.add_command(process)
main.add_command(proxy)
main.add_command(serve_reward)
main.add_command(evaluate)


if __name__ == "__main__":
    main()
