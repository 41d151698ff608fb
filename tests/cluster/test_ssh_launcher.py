"""The cluster launcher's file, by Ray's own validation and the options of Ray's own commands."""

from __future__ import annotations

import copy
import re
import shlex
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start, stop

from tests.cluster.files import CLUSTER, ROOT, documents
from tests.cluster.linters import lint

COMMANDS = ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands")


@pytest.fixture
def config() -> dict[str, Any]:
    (found,) = documents(CLUSTER / "ssh.yaml")
    return found


def validate(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` makes of a file before it reaches for any machine."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return dict(prepared)


def test_ray_accepts_the_file(config: dict[str, Any]) -> None:
    prepared = validate(config)
    machines = len(config["provider"]["worker_ips"])
    assert prepared["max_workers"] == machines > 0
    (kind,) = prepared["available_node_types"].values()
    assert (kind["min_workers"], kind["max_workers"]) == (machines, machines)


@pytest.mark.parametrize("name", sorted(documents(CLUSTER / "ssh.yaml")[0].keys() - {"provider"}))
def test_ray_rejects_a_misspelt_field(config: dict[str, Any], name: str) -> None:
    config[f"{name}x"] = config.pop(name)
    with pytest.raises(jsonschema.ValidationError, match=f"'{name}x' was unexpected"):
        validate(config)


@pytest.mark.parametrize(
    ("section", "wrong", "match"),
    [
        ("auth", {"ssh_username": "ubuntu"}, "'ssh_username' was unexpected"),
        ("head_start_ray_commands", "ray start", "not of type 'array'"),
        ("cluster_name", 7, "not of type 'string'"),
    ],
)
def test_ray_rejects_wrong_contents(
    config: dict[str, Any], section: str, wrong: object, match: str
) -> None:
    config[section] = wrong
    with pytest.raises(jsonschema.ValidationError, match=match):
        validate(config)


def test_ray_rejects_a_file_without_workers(config: dict[str, Any]) -> None:
    del config["provider"]["worker_ips"]
    with pytest.raises(click.ClickException, match="list of `worker_ips`"):
        validate(config)


def test_every_start_of_ray_is_with_authentication(config: dict[str, Any]) -> None:
    starts = [command for name in COMMANDS for command in config[name] if "ray start" in command]
    assert len(starts) == 2
    assert all(re.search(r"\bRAY_AUTH_MODE=token .*/ray start ", command) for command in starts)


def test_the_autoscaler_is_the_one_that_starts_workers_by_ssh(config: dict[str, Any]) -> None:
    """Ray's second forgets the head of the provider `local`, and then counts it as a worker."""
    assert "RAY_enable_autoscaler_v2=0" in config["head_start_ray_commands"][-1]


def test_the_token_gets_to_every_machine_and_nobody_else_reads_it(config: dict[str, Any]) -> None:
    assert "~/.ray/auth_token" in config["file_mounts"]  # where Ray looks for it
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"][0]


def test_ray_knows_every_option_that_it_is_started_with(config: dict[str, Any]) -> None:
    seen = []
    for name in COMMANDS:
        for command in config[name]:
            for called in re.findall(r"/ray ((?:start|stop)[^;&]*)", command):
                verb, *options = shlex.split(called)
                options = [option.replace("$RAY_HEAD_IP", "192.0.2.10") for option in options]
                {"start": start, "stop": stop}[verb].make_context(verb, options)
                seen.append(verb)
    assert seen == ["stop", "start", "stop", "start"]


def test_what_is_copied_to_the_machines_is_in_the_repository_or_is_made(
    config: dict[str, Any],
) -> None:
    made = {"dist", "~/.ray/auth_token"}  # by the commands at the head of the file
    for source in config["file_mounts"].values():
        assert source in made or (ROOT / source).exists(), source
    head = (CLUSTER / "ssh.yaml").read_text().split("cluster_name:")[0]
    assert "pip wheel --no-deps --wheel-dir dist ." in head
    assert "umask 077; ray get-auth-token --generate" in head


def test_the_commands_are_sound_shell(config: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "commands.sh"
    lines = [command for name in COMMANDS for command in config[name]]
    script.write_text("\n".join(["#!/bin/bash", "RAY_HEAD_IP=192.0.2.10", *lines, ""]))
    # A cd that fails ends its own line; the launcher gives every line a shell of its own.
    assert lint("shellcheck", "--exclude=SC2012,SC2164", script) == ""
