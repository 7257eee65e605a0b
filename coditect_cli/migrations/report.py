"""A plan and a run as people read them, and a run as JSON has it."""

from __future__ import annotations

import shlex
from typing import Any

from coditect_cli.migrations.run import Run


def plan_text(plan: dict[str, Any]) -> str:
    """The plan: where it goes, then each step with its commands, which can be pasted."""
    lines = [plan["phase"], head_text(plan["target"], plan["excludes"])]
    if plan["disagreement"]:
        lines.append(f"  A run would stop: {plan['disagreement']}")
    for number, step in enumerate(plan["steps"], 1):
        took = f", takes about {step['expectedSeconds']:g} s" if step["status"] == "to do" else ""
        lines += ["", f"{number}. {step['title']} [{step['name']}]: {step['status']}{took}"]
        for label, key in (("now", "now"), ("can't look", "unobserved"), ("needs", "precondition")):
            if step[key]:
                lines.append(f"   {label}: {step[key]}")
        lines += [f"   {line}" for line in _commands(step["actions"])]
        if step["bakeSeconds"]:
            lines.append(f"   then watch for {step['bakeSeconds']:g} s, and decide")
        if step["confirm"]:
            lines.append(f"   asks for the name {step['confirm']}, or --confirm")
        if step["inverse"]:
            lines += ["   back:", *(f"   {line}" for line in _commands(step["inverse"]))]
        else:
            lines.append(f"   back: none: {step['noInverse']}")
    return "\n".join(lines)


def head_text(target: dict[str, Any], excludes: str) -> str:
    """What every plan and every run opens with."""
    return "\n".join(
        (
            f"  account   {target['account'] or 'not known'}",
            f"  project   {target['project'] or 'not known'} ({target['projectSource']})",
            f"  region    {target['region']}",
            f"  cluster   {target['cluster'] or 'none in kubeconfig'}",
            f"  context   {target['context']}",
            f"  excludes  {excludes}",
        )
    )


def _commands(actions: list[dict[str, Any]]) -> list[str]:
    return [
        f"$ {shlex.join(action['argv'])}" if "argv" in action else f"- {action['call']}"
        for action in actions
    ]


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
