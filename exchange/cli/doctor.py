"""``exchange doctor``: every local and peer check, with the remedy.

Rules:
1. It reads and asks; it changes nothing and needs no passphrase, though it tries one that is at hand.
2. A check is ok, a warning (it will become trouble) or failed (it is); a failed check exits 1.
3. A check that could not be made says so; it never counts as ok.

The checks themselves are in ``checks``; here they are chosen, run and shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from exchange.cli import output
from exchange.cli.settings import Settings, common, settings

if TYPE_CHECKING:
    from exchange.adapters.config import Config
    from exchange.adapters.home import Home
    from exchange.cli.checks import Check
    from exchange.core.wire import JsonObject, JsonValue

_WORDS: Final = {"ok": "ok", "warn": "WARNING", "fail": "FAILED"}


@click.command()
@common
@click.option("--no-peers", is_flag=True, help="Ask no other node.")
def doctor(*, no_peers: bool) -> int:
    """Check this node and its way to each peer; say what to mend."""
    from exchange.cli.session import run

    said = settings()
    home, config = said.open_home()  # permissions and config.toml: without them nothing else can be asked
    found = run(_examine(said, home, config, no_peers=no_peers))
    failed = any(check.state == "fail" for check in found)
    if said.as_json:
        checks: list[JsonValue] = [_to_json(check) for check in found]
        output.emit_json(said, {"ok": not failed, "node": config.node, "checks": checks})
    else:
        output.banner(said)
        _show(found)
    return 1 if failed else 0


async def _examine(said: Settings, home: Home, config: Config, *, no_peers: bool) -> list[Check]:
    from exchange.adapters.snapshot import Snapshot
    from exchange.cli import checks
    from exchange.core.errors import ExchangeError
    from exchange.node.registry import load_registry

    health = await checks.ask_node(home)
    found = [
        checks.check_running(health),
        checks.check_passphrase(said, home, config),
        checks.check_tls(home),
        *checks.check_disk(home, config),
    ]
    try:
        with Snapshot(home.database) as snapshot:
            registry = await load_registry(snapshot, config.network, config.node)
            now = checks.now()
            found += checks.check_log(snapshot, now, running=health is not None)
            found += checks.check_cards(registry, now)
            found += checks.check_own_keys(registry, home)
            found += checks.check_prekeys(registry, now)
            found += checks.check_agreements(registry, now)
            found += checks.check_officers(registry, now)
            found += checks.check_queues(snapshot, registry, health, now)
            found += await checks.check_answers(snapshot, registry, now)
            found += checks.check_copies(snapshot)
            found += checks.check_notices(snapshot, registry)
    except ExchangeError as error:
        return [*found, checks.failed("store", error)]
    if not no_peers:
        found += await checks.check_peers(registry)
    return found


def _to_json(check: Check) -> JsonObject:
    return {
        "check": check.name,
        "state": check.state,
        "ok": check.state != "fail",
        "detail": check.detail,
        "code": check.code,
        "remedy": check.remedy,
    }


def _show(found: list[Check]) -> None:
    rows = [[check.name, _WORDS[check.state], check.detail, check.remedy] for check in found]
    output.table(["check", "", "found", "remedy"], rows)
    failed = sum(check.state == "fail" for check in found)
    warned = sum(check.state == "warn" for check in found)
    output.line()
    output.line(f"{len(found)} checks, {failed} failed, {warned} warnings.")
