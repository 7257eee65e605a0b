"""Cloud Run through the user's own gcloud: the argv of each change, and what a look finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coditect_cli.errors import Failed, NotFound
from coditect_cli.migrations import programs
from coditect_cli.migrations.step import Action, Facts


@dataclass(frozen=True)
class Target:
    """One entry of a service's traffic: `percent` of it goes to `revision`."""

    revision: str
    percent: int
    tag: str | None
    url: str | None  # where the tag is reached directly
    is_latest: bool  # it follows the newest revision that is ready


@dataclass(frozen=True)
class Service:
    """What serves. `image` and the two settings are the template's, that of the newest revision."""

    name: str
    url: str | None
    newest: str | None  # the revision that was created last, ready or not
    newest_ready: str | None
    targets: tuple[Target, ...]
    image: str
    max_instances: int | None
    session_affinity: bool
    not_ready: str | None  # why the last change has not come into effect

    @property
    def percents(self) -> dict[str, int]:
        """The revisions that have traffic, and how much; 100 together."""
        found: dict[str, int] = {}
        for target in self.targets:
            if target.percent:
                found[target.revision] = found.get(target.revision, 0) + target.percent
        return found

    @property
    def follows_latest(self) -> bool:
        """Whether all traffic goes to the newest revision, and to the next one by itself."""
        return any(target.is_latest and target.percent == 100 for target in self.targets)

    def tagged(self, tag: str) -> Target | None:
        """The entry with this tag; its percent is not its revision's whole one."""
        return next((target for target in self.targets if target.tag == tag), None)


@dataclass(frozen=True)
class Revision:
    """A revision, and whether it can serve. `image` has the digest that Cloud Run resolved.

    `spec` has its containers, with their variables and limits, as the API says them.
    """

    name: str
    image: str
    spec: Mapping[str, Any]
    is_ready: bool
    why_not: str | None


@dataclass(frozen=True)
class CloudRun:
    """The services of one project and region.

    Each `..._argv` makes a command line and runs nothing; programs.run() runs it. The looks raise
    what programs.run_json() raises.
    """

    project: str
    region: str

    def describe(self, service: str) -> Service | None:
        """The service as it is now; None when there is none of that name."""
        try:
            document = programs.run_json(self._argv("services", "describe", service))
        except NotFound as error:
            # A first deployment gets all traffic: nothing else that is missing may look like one.
            if "Cannot find" not in error.message:
                raise
            return None
        return read_service(document)

    def revision(self, name: str) -> Revision | None:
        """A revision; None when there is none of that name."""
        try:
            document = programs.run_json(self._argv("revisions", "describe", name))
        except NotFound:
            return None
        return read_revision(document)

    def deploy_argv(self, service: str, image: str, *, tag: str, traffic: bool) -> tuple[str, ...]:
        """Make a revision of an image; without `traffic` it gets none, which needs a service.

        Each run makes another revision.
        """
        flags = [f"--image={image}", f"--tag={tag}"]
        return self._argv("deploy", service, *flags, *([] if traffic else ["--no-traffic"]))

    def split_argv(self, service: str, tag: str, percent: int) -> tuple[str, ...]:
        """Give a tagged revision a part of the traffic; those that serve now share the rest."""
        return self._shift(service, f"--to-tags={tag}={percent}")

    def percents_argv(self, service: str, percents: Mapping[str, int]) -> tuple[str, ...]:
        """Give each of these revisions its part of the traffic, 100 together, all others none."""
        parts = ",".join(f"{revision}={percent}" for revision, percent in percents.items())
        return self._shift(service, f"--to-revisions={parts}")

    def tag_argv(self, service: str, tag: str, revision: str | None) -> tuple[str, ...]:
        """Give a tag to a revision, or take it away; traffic stays."""
        if revision is None:
            return self._shift(service, f"--remove-tags={tag}")
        return self._shift(service, f"--update-tags={tag}={revision}")

    def image_argv(self, service: str, image: str) -> tuple[str, ...]:
        """Make a revision as the newest one, but with this image."""
        return self._argv("services", "update", service, f"--image={image}")

    def latest_argv(self, service: str) -> tuple[str, ...]:
        """Give the newest revision that is ready all traffic, and each later one by itself."""
        return self._shift(service, "--to-latest")

    def scale_argv(
        self, service: str, max_instances: int | None, session_affinity: bool = True
    ) -> tuple[str, ...]:
        """Bound the instances or don't, keep a client on one where possible; makes a revision."""
        affinity = "--session-affinity" if session_affinity else "--no-session-affinity"
        most = "default" if max_instances is None else max_instances
        flags = [f"--max-instances={most}", affinity]
        return self._argv("services", "update", service, *flags)

    def runs_as_newest(self, serving: Mapping[str, int], service: Service) -> bool:
        """Whether the one revision that serves is what the newest one is: image, variables."""
        if len(serving) != 1 or service.newest_ready is None:
            return False
        mine, newest = self.revision(*serving), self.revision(service.newest_ready)
        if mine is None or newest is None:
            return False
        return (mine.image, _but_image(mine.spec)) == (newest.image, _but_image(newest.spec))

    def _shift(self, service: str, how: str) -> tuple[str, ...]:
        return self._argv("services", "update-traffic", service, how)

    def _argv(self, *words: str) -> tuple[str, ...]:
        where = (f"--region={self.region}", f"--project={self.project}", "--format=json")
        return ("gcloud", "run", *words, *where)


def follow_latest(run: CloudRun, name: str, serving: Mapping[str, int], timeout: float) -> Action:
    """Give the newest revision all traffic, if it is what served; another's stays without."""
    argv = run.latest_argv(name)

    def follow() -> Facts:
        service = run.describe(name)
        if service is not None and run.runs_as_newest(serving, service):
            programs.run(argv, timeout=timeout)
        return {}

    return Action(follow, argv=argv)


def read_service(document: Any) -> Service:
    """A service from what the API says (Knative's Service, serving.knative.dev/v1).

    Raises Failed when that is something else.
    """
    try:
        template, status = document["spec"]["template"], document.get("status", {})
        notes = template.get("metadata", {}).get("annotations", {})
        most = notes.get("autoscaling.knative.dev/maxScale")
        return Service(
            name=document["metadata"]["name"],
            url=status.get("url"),
            newest=status.get("latestCreatedRevisionName"),
            newest_ready=status.get("latestReadyRevisionName"),
            targets=tuple(_target(one) for one in status.get("traffic", ())),
            image=template["spec"]["containers"][0]["image"],
            max_instances=None if most is None else int(most),
            session_affinity=notes.get("run.googleapis.com/sessionAffinity") == "true",
            not_ready=_why_not(document),
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise _unknown_answer("service", error) from error


def read_revision(document: Any) -> Revision:
    """A revision from what the API says. Raises Failed when that is something else."""
    try:
        image = document["spec"]["containers"][0]["image"]
        why_not = _why_not(document)
        return Revision(
            name=document["metadata"]["name"],
            image=document["status"].get("imageDigest") or image,
            spec=document["spec"],
            is_ready=why_not is None,
            why_not=why_not,
        )
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise _unknown_answer("revision", error) from error


def _but_image(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A revision's spec without the first image's name: its digest is told apart from it."""
    first, *more = spec["containers"]
    return {**spec, "containers": [{**first, "image": None}, *more]}


def _target(entry: Any) -> Target:
    return Target(
        revision=entry["revisionName"],
        percent=entry.get("percent", 0),
        tag=entry.get("tag"),
        url=entry.get("url"),
        is_latest=entry.get("latestRevision", False),
    )


def _why_not(document: Any) -> str | None:
    for condition in document.get("status", {}).get("conditions", ()):
        if condition["type"] == "Ready":
            if condition["status"] == "True":
                return None
            return str(condition.get("message") or condition.get("reason") or "not ready yet")
    return "not ready yet"


def _unknown_answer(what: str, error: Exception) -> Failed:
    return Failed(
        f"gcloud describes a {what} in a way that is not known: {type(error).__name__} {error}",
        code="cloud_run.unknown_answer",
    )
