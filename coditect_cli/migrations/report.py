"""A plan and a run as people read them, and a run as JSON has it."""

from __future__ import annotations

from typing import Any

from coditect_cli.migrations.run import Run
from coditect_cli.migrations.step import action_text
from coditect_cli.settings import duration_text


def plan_text(plan: dict[str, Any]) -> str:
    """The plan: where it goes, then each step with its commands, which can be pasted."""
    lines = [plan["phase"], head_text(plan["target"], plan["excludes"])]
    if plan["disagreement"]:
        lines.append(f"  A run would stop: {plan['disagreement']}")
    if plan["target"]["project"] is None:
        lines.append("  A run would stop: there is no project to migrate")
    for number, step in enumerate(plan["steps"], 1):
        lines += ["", *_step_lines(number, step)]
    return "\n".join(lines)


def _step_lines(number: int, step: dict[str, Any]) -> list[str]:
    takes = "else takes" if step["status"] == "already so" else "takes"
    takes += f" about {step['expectedSeconds']:g} s"
    lines = [f"{number}. {step['title']} [{step['name']}]: {step['status']}, {takes}"]
    for label, key in (("now", "now"), ("can't look", "unobserved"), ("needs", "precondition")):
        if step[key]:
            lines.append(f"   {label}: {step[key]}")
    if step["sends"]:
        first, *more = step["sends"]
        lines.append(f"   sends: {first}" + (f" and {len(more)} more files" if more else ""))
    lines += [f"   {line}" for line in _commands(step["actions"])]
    if step["bakeSeconds"]:
        lines.append(f"   then watch for {duration_text(step['bakeSeconds'])}")
    if gate := step["gate"]:
        lines.append(f"   gate, each {duration_text(gate['intervalSeconds'])}:")
        lines += [f"   {line}" for line in _commands(gate["actions"])]
        lines.append(
            f"   passes from {gate['minSessions']:,} new sessions and {gate['minRequests']:,} "
            f"requests on, fails at a rate of errors more than {gate['maxErrorIncrease']:.2%} "
            f"above the serving one's, if that is no chance (or above {gate['maxErrorRate']:.0%}, "
            f"where that has too few requests), else holds for {duration_text(gate['holdSeconds'])}"
        )
    if step["confirm"]:
        lines.append(f"   asks for the name {step['confirm']}, or --confirm")
    if step["inverse"]:
        return [*lines, "   back:", *(f"   {line}" for line in _commands(step["inverse"]))]
    return [*lines, f"   back: none: {step['noInverse']}"]


def head_text(target: dict[str, Any], excludes: str) -> str:
    """What every plan and every run opens with."""
    regions = [target["region"]]
    for what, key in (("cluster", "clusterRegion"), ("old cluster", "oldClusterRegion")):
        if target[key]:
            regions.append(f"the {what} in {target[key]}")
    return "\n".join(
        (
            f"  account   {target['account'] or 'not known'}",
            f"  project   {target['project'] or 'not known'} ({target['projectSource']})",
            f"  region    {', '.join(regions)}",
            f"  cluster   {target['cluster'] or 'none in kubeconfig'}",
            f"  context   {target['context']}",
            f"  excludes  {excludes}",
        )
    )


def _commands(actions: list[dict[str, Any]]) -> list[str]:
    return [f"{'$' if 'argv' in action else '-'} {action_text(action)}" for action in actions]


def run_fields(run: Run) -> dict[str, Any]:
    """A run as JSON has it."""
    return {
        "id": run.id,
        "phase": run.phase,
        "state": run.state,
        "step": run.current.name if run.current is not None else None,
        "reason": run.reason,
        "actor": run.actor,
        "startedAt": run.started_at,
        "updatedAt": run.updated_at,
        "target": run.target,
        "steps": [step.as_dict() for step in run.steps.values()],
    }


def run_text(run: Run) -> str:
    """A run with its steps."""
    width = max((len(name) for name in run.steps), default=0)
    lines = [f"{run.id} is {run.state}" + (f": {run.reason}" if run.reason else "")]
    lines += [f"  project {run.target.get('project')}, started {run.started_at} by {run.actor}"]
    for step in run.steps.values():
        detail = f"  {step.detail}" if step.detail else ""
        lines.append(f"  {step.name:<{width}}  {step.status:<10}{detail}".rstrip())
    return "\n".join(lines)
