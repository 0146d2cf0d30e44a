"""`keepstone policy`: check the policy file, and ask why it says what it says."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.options import format_option, site_at, workspace_option
from keepstone.cli.output import emit_json, say


@click.group("policy")
def command() -> None:
    """Check, show and explain the policy."""


@command.command("check")
@workspace_option
@format_option("json")
def check(root: Path, style: str) -> None:
    """Read and validate the policy file, and have a running owner take it into force.

    Names what is valid but cannot work, such as a requirement nobody can fulfil.
    """
    from keepstone.policy.engine import Engine
    from keepstone.policy.explain import warnings
    from keepstone.workspace.operations import perform
    from keepstone.workspace.reading import load_policy

    site = site_at(root)
    policy = load_policy(site.layout)
    Engine(policy)
    found = warnings(policy)
    perform(site, "policy.reload", {})
    if style == "json":
        emit_json(
            {
                "schema": "keepstone.policy-check/v1",
                "profile": policy.profile,
                "policy": str(policy.digest),
                "warnings": list(found),
            }
        )
        return
    for warning in found:
        say(warning, mark="warn")
    say(f"profile {policy.profile}, {policy.digest}, in force", mark="ok")


@command.command("show")
@click.option(
    "--profile",
    type=click.Choice(["local", "production"]),
    help="Show a profile as it ships instead of the workspace's file.",
)
@click.option("--cedar", is_flag=True, help="Show the Cedar policies that it compiles to.")
@workspace_option
def show(profile: str | None, cedar: bool, root: Path) -> None:
    """Print the policy file."""
    from keepstone.policy.compile import compile_policy
    from keepstone.policy.parse import parse_policy, profile_text
    from keepstone.workspace.reading import load_policy

    site = site_at(root)
    if cedar:
        policy = parse_policy(profile_text(profile)) if profile else load_policy(site.layout)
        click.echo(compile_policy(policy).text)
        return
    if profile:
        click.echo(profile_text(profile), nl=False)
        return
    load_policy(site.layout)
    click.echo(site.layout.policy.read_bytes(), nl=False)


@command.command("explain")
@click.argument("who_or_what")
@click.option("--action", help="For a principal: what they want to do, such as model.predict.")
@click.option("--model", help="For a principal: the model they want to do it to.")
@click.option(
    "--endpoint", default="local", show_default=True, help="For a model: where it serves."
)
@workspace_option
@format_option("json")
def explain(
    who_or_what: str, action: str | None, model: str | None, endpoint: str, root: Path, style: str
) -> int:
    """Say why WHO_OR_WHAT is refused or allowed, and what would change that.

    A model (name or digest) is judged by the gate. A principal (such as user:alice, or a key's
    id) is asked about with --action and --model. Exit status 1 when the answer is no.
    """
    from keepstone.errors import Exit
    from keepstone.workspace.explaining import explain_credential, explain_subject

    site = site_at(root)
    if action is not None:
        found = explain_credential(site, who_or_what, action, model)
    else:
        found = explain_subject(site, who_or_what, endpoint)
    if style == "json":
        emit_json(found.to_dict())
    else:
        click.echo(found.to_text())
    return int(Exit.OK if found.allowed else Exit.NO)
