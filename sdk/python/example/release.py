"""A release from its trigger to its end: starts it, watches it live, and is refused once.

    PHASEGATE_ADDRESS=http://127.0.0.1:7433 python release.py

Against a server on this machine that believes its callers, such as `phasegate serve --memory`.
"""

import os
import threading

from google.protobuf.duration_pb2 import Duration

import phasegate
from phasegate import v1

ADDRESS = os.environ.get("PHASEGATE_ADDRESS", "http://127.0.0.1:7433")


def prepare(client: phasegate.Client) -> None:
    """A pipeline that begins with a tenth of all, and a flag whose releases run along it."""
    everyone = v1.TargetingRule(id="everyone")
    tenth = v1.TargetingRule(id="tenth", rollout_basis_points=1000)
    first = v1.Phase(id="canary", rules=[tenth], bake_duration=Duration(seconds=1))
    # Somebody else has to agree before everyone gets the change.
    approval = v1.ApprovalRequirement(min_approvals=1, reviewer_groups=["sre"])
    second = v1.Phase(id="everyone", rules=[everyone], approval=approval)
    client.create_pipeline("web", v1.Pipeline(phases=[first, second]))
    client.create_flag("checkout", v1.Flag(feature_gate=v1.GateSpec(), pipeline="pipelines/web"))


def approve(name: str, phase_id: str) -> None:
    """Agrees, as somebody of the reviewers."""
    with phasegate.Client(ADDRESS, principal="bea@example.com", groups=["sre"]) as reviewer:
        reviewer.approve_phase(name, phase_id=phase_id, reason="the canary looks well")


def main() -> None:
    """The release."""
    with phasegate.Client(ADDRESS, principal="ann@example.com") as client:
        prepare(client)
        change = v1.Release(flag="flags/checkout", feature_gate=v1.GateSpec(default_value=True))
        release = client.trigger_release(change)
        print(release.name, "is", v1.ReleaseState.Name(release.state))

        # Ann is in none of the groups that may approve.
        refused_for: list[phasegate.Reason] = []

        for update in client.watch_release(release.name):
            match update:
                case phasegate.Change(release=now, events=events):
                    for event in events:
                        print(v1.ReleaseEventType.Name(event.event_type), event.phase_id)
                    if now.state == v1.RELEASE_STATE_AWAITING_APPROVAL and not refused_for:
                        refused_for.append(try_to_approve(client, now))
                        # The watch goes on while somebody else agrees.
                        who = (now.name, now.current_phase_id)
                        threading.Thread(target=approve, args=who).start()
                case phasegate.Interrupted(error=error):
                    print("nothing is lost:", error)
                case phasegate.Restarted(error=error):
                    print("beginning anew:", error)

        answer = client.evaluate_flag(
            "flags/checkout", environment="prod", context={"targetingKey": "user-7"}
        )
        print("over; everyone gets", answer.value.bool_value)


def try_to_approve(client: phasegate.Client, release: v1.Release) -> phasegate.Reason:
    """Asks for what is refused, and decides by the reason."""
    try:
        client.approve_phase(release.name, phase_id=release.current_phase_id)
    except phasegate.Error as error:
        if error.reason in (phasegate.Reason.NOT_AN_APPROVER, phasegate.Reason.SELF_APPROVAL):
            print("somebody else must approve:", error)
            return error.reason
        raise
    raise SystemExit("the server let somebody approve who may not")


if __name__ == "__main__":
    main()
