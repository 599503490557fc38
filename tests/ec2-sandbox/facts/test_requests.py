"""Section 1.1: requests, dry runs, order of checks."""

import pytest
from conftest import INSTANCE, associate, refused, rows, states


def raw(ec2, action, **parameters):
    """A call with parameters that the SDK's model does not have (`DryRun`)."""
    add = lambda params, **_: params["body"].update(parameters)
    ec2.meta.events.register(f"before-call.ec2.{action}", add)
    return ec2


def test_an_association_has_the_profiles_own_id_and_no_timestamp(sandbox, ec2):
    """CAP-T 1.1: `IamInstanceProfile.Id` is the profile's id; `Timestamp` was absent from every response."""
    profile = sandbox.profile("fresh")
    sandbox.instance()
    row = associate(ec2, "fresh")
    assert row["IamInstanceProfile"] == {"Arn": profile["arn"], "Id": profile["id"]}
    assert profile["id"].startswith("AIPA") and row["AssociationId"].startswith("iip-assoc-")
    assert "Timestamp" not in row


def test_of_a_conflicting_name_and_arn_the_arn_wins_silently(sandbox, ec2):
    """CAP-T 1.1 `associate-conflicting-actual`."""
    sandbox.instance()
    arn = "arn:aws:iam::123456789012:instance-profile/team/other"
    row = associate(ec2, IamInstanceProfile={"Name": "app", "Arn": arn})
    assert row["IamInstanceProfile"]["Arn"] == arn


def test_an_empty_profile_is_a_missing_parameter(sandbox, ec2):
    """CAP-T 1.1: an empty struct gives `MissingParameter`."""
    sandbox.instance()
    assert refused(associate, ec2, IamInstanceProfile={})[0] == "MissingParameter"


def test_a_dry_run_is_honoured_with_412_and_ignores_the_existing_association(sandbox, ec2):
    """CAP-T 1.1 `associate-duplicate-dry`."""
    sandbox.instance(profile="app")
    raw(ec2, "AssociateIamInstanceProfile", DryRun="true")
    code, _, status = refused(associate, ec2, "app")
    assert (code, status) == ("DryRunOperation", 412)
    assert states(sandbox.client("ec2")) == [("app", "associated")]


def test_a_dry_run_checks_syntax_and_profile(sandbox, ec2):
    """CAP-T 1.1: DryRun checks syntax, profile existence and authorization."""
    sandbox.instance()
    raw(ec2, "AssociateIamInstanceProfile", DryRun="true")
    assert refused(associate, ec2, "nosuch")[0] == "InvalidParameterValue"
    assert refused(associate, ec2, instance="i-00000000000000000")[0] == "InvalidInstanceID.Malformed"


def test_a_dry_run_of_detaching_needs_no_pass_role(sandbox, ec2):
    """CAP-T 3.2 `disassociate-no-pass-dry`."""
    association = sandbox.instance(profile="app")
    sandbox.policy({"Effect": "Allow", "Action": "ec2:*", "Resource": "*"})
    raw(ec2, "DisassociateIamInstanceProfile", DryRun="true")
    assert refused(ec2.disassociate_iam_instance_profile, AssociationId=association)[0] == "DryRunOperation"


def test_a_malformed_instance_is_reported_before_authorization(sandbox, ec2):
    """CAP-T 1.1 order of checks: even for a caller without any permission."""
    sandbox.policy({"Effect": "Deny", "Action": "*", "Resource": "*"})
    code, message, _ = refused(associate, ec2, instance="i-00000000000000000")
    assert code == "InvalidInstanceID.Malformed"
    assert message == "The instance ID 'i-00000000000000000' is malformed"


@pytest.mark.parametrize("call", ["replace", "disassociate"])
def test_the_all_zero_association_is_no_id(sandbox, ec2, call):
    """CAP-T 1.1: `InvalidParameterValue` "Invalid Id: ..."."""
    request = {"AssociationId": "iip-assoc-00000000000000000"}
    if call == "replace":
        action = ec2.replace_iam_instance_profile_association
        request["IamInstanceProfile"] = {"Name": "app"}
    else:
        action = ec2.disassociate_iam_instance_profile
    code, message, _ = refused(action, **request)
    assert code == "InvalidParameterValue" and message.startswith("Invalid Id: ")


def test_what_is_not_known_is_refused_aloud(sandbox, ec2):
    """DOC: unknown actions and parameters are errors, never ignored."""
    assert refused(ec2.describe_vpcs)[0] == "InvalidAction"
    assert refused(ec2.describe_instances, IncludeManagedResources=True)[0] == "UnknownParameter"
    raw(ec2, "DescribeIamInstanceProfileAssociations", Surprise="1")
    assert refused(rows, ec2)[0] == "UnknownParameter"


def test_the_cli_attaches_looks_and_detaches(sandbox):
    """BM 1.1: the same four calls by the `aws` CLI."""
    sandbox.instance(state="stopped")
    done = sandbox.aws("ec2", "associate-iam-instance-profile", "--instance-id", INSTANCE,
                       "--iam-instance-profile", "Name=app")
    association = done["IamInstanceProfileAssociation"]["AssociationId"]
    seen = sandbox.aws("ec2", "describe-iam-instance-profile-associations",
                       "--filters", f"Name=instance-id,Values={INSTANCE}")
    assert [row["AssociationId"] for row in seen["IamInstanceProfileAssociations"]] == [association]
    error = sandbox.aws("ec2", "replace-iam-instance-profile-association", "--association-id", association,
                        "--iam-instance-profile", "Name=other")
    assert f"(IncorrectState) when calling" in error and "is not the active association" in error
    gone = sandbox.aws("ec2", "disassociate-iam-instance-profile", "--association-id", association)
    assert gone["IamInstanceProfileAssociation"]["State"] == "disassociated"
