"""Section 1.3: association states on instances in every state."""

import pytest
from conftest import (
    INSTANCE, REGION, UNKNOWN, associate, disassociate, eventually, refused, replace, rows, shown, states,
)


def test_associate_on_running_is_associating_then_associated(sandbox, ec2):
    """CAP-T 1.3: new id, `associating`; later `associated`; the guest has credentials."""
    sandbox.instance()
    assert associate(ec2)["State"] == "associating"
    assert states(ec2) == [("app", "associating")]
    eventually(sandbox, lambda: states(ec2), [("app", "associated")])
    eventually(sandbox, lambda: shown(ec2), ("running", "app"))
    assert [step["carries"] for step in sandbox.timeline()["steps"]] == ["nothing", "credentials"]


def test_replace_gives_a_new_id_two_rows_an_old_view_and_no_gap(sandbox, ec2):
    """CAP-T 1.3: new id; two rows; DescribeInstances shows the old profile; the guest goes over without a gap."""
    old = sandbox.instance(profile="app")
    new = replace(ec2, old, "other")
    assert new["AssociationId"] != old and new["State"] == "associating"
    assert states(ec2) == [("app", "disassociating"), ("other", "associating")]
    assert shown(ec2) == ("running", "app")
    eventually(sandbox, lambda: states(ec2), [("other", "associated")])
    assert shown(ec2) == ("running", "other")
    timeline = sandbox.timeline()
    assert [step["profileArn"].split("/")[-1] for step in timeline["steps"]] == ["app", "other"]
    assert timeline["gaps"] == []


def test_replace_to_the_same_profile_is_a_no_op_with_the_same_id(sandbox, ec2):
    """CAP-T 1.3."""
    old = sandbox.instance(profile="app")
    same = replace(ec2, old, "app")
    assert (same["AssociationId"], same["State"]) == (old, "associated")
    assert len(rows(ec2)) == 1


def test_disassociate_on_running_is_disassociating_and_may_be_repeated(sandbox, ec2):
    """CAP-T 1.3: same id; again while `disassociating` succeeds; profile shown exactly while the row is."""
    old = sandbox.instance(profile="app")
    for _ in range(2):
        row = disassociate(ec2, old)
        assert (row["AssociationId"], row["State"]) == (old, "disassociating")
    assert shown(ec2) == ("running", "app")
    eventually(sandbox, lambda: rows(ec2), [])
    eventually(sandbox, lambda: shown(ec2), ("running", None))
    assert sandbox.timeline()["steps"][-1]["carries"] == "nothing"


def test_an_id_that_is_gone_is_not_found(sandbox, ec2):
    """CAP-T 1.3; CAP-A for the id superseded by a Replace."""
    old = sandbox.instance(profile="app")
    replace(ec2, old, "other")
    eventually(sandbox, lambda: states(ec2), [("other", "associated")])
    for call in (lambda: disassociate(ec2, old), lambda: replace(ec2, old, "app"), lambda: rows(ec2, AssociationIds=[old])):
        code, message, _ = refused(call)
        assert (code, message) == ("InvalidAssociationID.NotFound", f"An invalid association-id of '{old}' was given")


@pytest.mark.parametrize("name", ["app", "other"])
@pytest.mark.parametrize("wait", [False, True])
def test_associate_on_an_existing_association_is_refused(sandbox, ec2, name, wait):
    """CAP-T 1.3 (same profile); aws-samples/one-observability-demo#201 (another)."""
    sandbox.instance()
    associate(ec2, "app")
    if wait:
        eventually(sandbox, lambda: states(ec2), [("app", "associated")])
    code, message, status = refused(associate, ec2, name)
    assert (code, status) == ("IncorrectState", 400)
    assert message == f"There is an existing association for instance {INSTANCE}"


def test_a_stopped_instance_can_be_associated_but_not_replaced(sandbox, ec2):
    """CAP-T 1.3; aws/aws-cli#5251, hashicorp/terraform-provider-aws#8262."""
    sandbox.instance(state="stopped")
    row = associate(ec2)
    assert row["State"] == "associating"
    code, message, _ = refused(replace, ec2, row["AssociationId"], "other")
    assert code == "IncorrectState"
    assert message == f"The association {row['AssociationId']} is not the active association"


def test_on_stopped_a_detach_is_immediate_and_an_attach_follows_at_once(sandbox, ec2):
    """CAP-T 1.3: `disassociated` at once; a following Assoc 30 ms later succeeded."""
    old = sandbox.instance(state="stopped", profile="app")
    assert disassociate(ec2, old)["State"] == "disassociated"
    assert rows(ec2) == []
    assert associate(ec2, "other")["State"] == "associating"


def test_associated_while_stopped_is_associated_after_the_start(sandbox, ec2):
    """CAP-T 1.3: after Assoc (stopped) + Start it was `associated`."""
    sandbox.instance(state="stopped")
    associate(ec2)
    sandbox.advance(3600)
    assert states(ec2) == [("app", "associating")]
    ec2.start_instances(InstanceIds=[INSTANCE])
    eventually(sandbox, lambda: states(ec2), [("app", "associated")])


def test_a_terminated_instance_has_lost_its_association_and_takes_none(sandbox, ec2):
    """CAP-T 1.3: Desc empty, `IamInstanceProfile` absent; Assoc `IncorrectInstanceState`."""
    sandbox.instance(profile="app")
    ec2.terminate_instances(InstanceIds=[INSTANCE])
    eventually(sandbox, lambda: shown(ec2), ("terminated", None))
    assert rows(ec2) == []
    code, message, _ = refused(associate, ec2)
    assert code == "IncorrectInstanceState"
    assert message == f"The instance '{INSTANCE}' is not in the 'running' or 'stopped' states."


@pytest.mark.parametrize("state", ["pending", "stopping", "shutting-down"])
def test_between_states_nothing_can_be_written(sandbox, ec2, state):
    """1.3: by the text of the error, refused (stricter than captured for Replace and Disassociate)."""
    association = sandbox.instance(state=state, profile="app")
    assert refused(associate, ec2)[0] == "IncorrectInstanceState"
    assert refused(replace, ec2, association, "other")[0] == "IncorrectState"
    assert refused(disassociate, ec2, association)[0] == "IncorrectInstanceState"


def test_a_removed_role_leaves_the_association_and_the_guests_credentials(sandbox, ec2, iam):
    """CAP-T 1.3: stays `associated`; still the old credentials 68 s later."""
    sandbox.instance(profile="app")
    iam.remove_role_from_instance_profile(InstanceProfileName="app", RoleName="app")
    sandbox.advance(68)
    assert states(ec2) == [("app", "associated")]
    assert sandbox.timeline()["steps"][-1]["carries"] == "credentials"


def test_a_profile_without_a_role_is_associated_and_carries_nothing(sandbox, ec2):
    """CAP-T 1.3: IMDS has no `iam/`."""
    sandbox.instance()
    associate(ec2, "empty")
    eventually(sandbox, lambda: states(ec2), [("empty", "associated")])
    assert [step["carries"] for step in sandbox.timeline()["steps"]] == ["nothing"]


def test_a_broken_trust_policy_leaves_the_row_associating(sandbox, ec2):
    """CAP-T 1.3: still `associating` after 76 s, profile shown, IMDS `AssumeRoleUnauthorizedAccess`."""
    sandbox.instance()
    associate(ec2, "broken")
    sandbox.advance(76)
    assert states(ec2) == [("broken", "associating")]
    assert shown(ec2) == ("running", "broken")
    assert sandbox.timeline()["steps"][-1]["carries"] == "unauthorized"


def test_describe_instances_right_after_a_stop_still_says_running(sandbox, ec2):
    """CAP-T 1.3 stale reads: 0.2 s after StopInstances still `running`."""
    sandbox.instance()
    assert ec2.stop_instances(InstanceIds=[INSTANCE])["StoppingInstances"][0]["CurrentState"]["Name"] == "stopping"
    assert shown(ec2)[0] == "running"
    eventually(sandbox, lambda: shown(ec2)[0], "stopped")


def test_a_stuck_row_is_cured_by_detach_and_attach(sandbox, ec2):
    """1.3, re:Post `ec2-resolve-active-assocation-error`."""
    association = sandbox.instance(profile="app")
    sandbox.admin("POST", "stick", {"associationId": association, "state": "disassociating"})
    sandbox.advance(600)
    code, message, _ = refused(replace, ec2, association, "other")
    assert code == "IncorrectState" and "is not the active association" in message
    disassociate(ec2, association)
    eventually(sandbox, lambda: rows(ec2), [])
    assert associate(ec2, "other")["State"] == "associating"


def test_every_instance_of_a_launch_gets_the_profile(sandbox, ec2):
    """5: RunInstances with profile, count > 1: all get it; pending is visible."""
    launched = ec2.run_instances(
        ImageId="ami-1", MinCount=3, MaxCount=3, IamInstanceProfile={"Name": "app"},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "a"}]}],
    )["Instances"]
    assert {instance["State"]["Name"] for instance in launched} == {"pending"}
    eventually(sandbox, lambda: states(ec2), [("app", "associated")] * 3)
    found = ec2.describe_instances(Filters=[{"Name": "tag:team", "Values": ["a"]}])
    assert len(found["Reservations"]) == 3


def test_an_instance_that_does_not_exist_is_not_found(sandbox, ec2):
    """1.5."""
    code, message, _ = refused(associate, ec2, instance=UNKNOWN)
    assert (code, message) == ("InvalidInstanceID.NotFound", f"The instance ID '{UNKNOWN}' does not exist")
