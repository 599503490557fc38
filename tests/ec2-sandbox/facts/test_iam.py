"""Sections 1.5 and 3: profiles as IAM and EC2 know them, and what authorizes the calls."""

import pytest
from conftest import ACCOUNT, INSTANCE, REGION, associate, disassociate, refused, replace, rows, states

INSTANCES = f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance"
TRUST = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}'


def allow(actions, resource="*", **condition):
    statement = {"Effect": "Allow", "Action": actions, "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


EC2 = allow("ec2:*")


def test_a_profile_ec2_does_not_know_is_an_invalid_value(sandbox, ec2):
    """1.5: "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"."""
    sandbox.instance()
    code, message, status = refused(associate, ec2, "nosuch")
    assert (code, status) == ("InvalidParameterValue", 400)
    assert message == (
        "Value (nosuch) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
    )
    arn = f"arn:aws:iam::{ACCOUNT}:instance-profile/other"
    _, message, _ = refused(associate, ec2, IamInstanceProfile={"Arn": arn})
    assert message == f"Value ({arn}) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN"


def test_a_new_profile_is_invalid_until_it_has_propagated(sandbox, ec2, iam):
    """3.1 propagation."""
    sandbox.settings(propagation_ms=10_000)
    sandbox.instance()
    iam.create_role(RoleName="new", AssumeRolePolicyDocument=TRUST)
    iam.create_instance_profile(InstanceProfileName="new")
    iam.add_role_to_instance_profile(InstanceProfileName="new", RoleName="new")
    assert iam.get_instance_profile(InstanceProfileName="new")["InstanceProfile"]["Roles"][0]["RoleName"] == "new"
    assert refused(associate, ec2, "new")[0] == "InvalidParameterValue"
    sandbox.advance(11)
    assert associate(ec2, "new")["State"] == "associating"


def test_names_are_unique_ignoring_case_and_path_and_answered_as_created(sandbox, iam):
    """BM 3.1."""
    assert refused(iam.create_instance_profile, InstanceProfileName="APP", Path="/x/")[0] == "EntityAlreadyExists"
    assert iam.get_instance_profile(InstanceProfileName="aPp")["InstanceProfile"]["InstanceProfileName"] == "app"


def test_a_profile_holds_one_role(sandbox, iam):
    """BM 3.1: quota not raisable."""
    assert refused(iam.add_role_to_instance_profile, InstanceProfileName="app", RoleName="other")[0] == "LimitExceeded"


def test_iam_does_not_find_what_is_not_there(sandbox, iam):
    """1.5: `NoSuchEntity` 404; 5: also ListInstanceProfilesForRole of an unknown role."""
    code, message, status = refused(iam.get_instance_profile, InstanceProfileName="nosuch")
    assert (code, message, status) == ("NoSuchEntity", "Instance Profile nosuch cannot be found.", 404)
    code, message, status = refused(iam.list_instance_profiles_for_role, RoleName="nosuch")
    assert (code, message, status) == ("NoSuchEntity", "The role with name nosuch cannot be found.", 404)


def test_a_profile_made_again_has_the_same_arn_and_another_id(sandbox, iam):
    """CAP-T 1.1; 5: IAM only demands that the role was removed."""
    before = iam.get_instance_profile(InstanceProfileName="app")["InstanceProfile"]
    assert refused(iam.delete_instance_profile, InstanceProfileName="app")[0] == "DeleteConflict"
    iam.remove_role_from_instance_profile(InstanceProfileName="app", RoleName="app")
    iam.delete_instance_profile(InstanceProfileName="app")
    after = iam.create_instance_profile(InstanceProfileName="app")["InstanceProfile"]
    assert before["Arn"] == after["Arn"] and before["InstanceProfileId"] != after["InstanceProfileId"]


def test_profiles_are_listed_by_path_with_their_roles_page_by_page(sandbox, iam):
    """BM 3.1."""
    names = lambda **page: [profile["InstanceProfileName"] for profile in iam.list_instance_profiles(**page)["InstanceProfiles"]]
    assert names(PathPrefix="/team/") == ["other"]
    pages = iam.get_paginator("list_instance_profiles").paginate(PaginationConfig={"PageSize": 3})
    assert [len(page["InstanceProfiles"]) for page in pages] == [3, 1]
    found = sandbox.aws("iam", "list-instance-profiles-for-role", "--role-name", "other")
    assert found["InstanceProfiles"][0]["Roles"][0]["Arn"].endswith("role/team/other")


@pytest.mark.parametrize("region,partition", [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")])
def test_other_partitions_have_other_arns(sandbox, region, partition):
    """DOC 3.1."""
    profile = sandbox.profile("app", region=region)
    assert profile["arn"] == f"arn:{partition}:iam::{ACCOUNT}:instance-profile/app"
    sandbox.instance(region=region)
    assert associate(sandbox.client("ec2", region=region))["IamInstanceProfile"]["Arn"] == profile["arn"]


def test_a_denial_names_principal_action_and_resource(sandbox, ec2):
    """CAP-T 1.5/3.2: `UnauthorizedOperation` 403 with an encoded message."""
    sandbox.instance()
    sandbox.policy(allow("ec2:Describe*"))
    code, message, status = refused(associate, ec2)
    assert (code, status) == ("UnauthorizedOperation", 403)
    assert (
        f"User: arn:aws:iam::{ACCOUNT}:user/ME is not authorized to perform: ec2:AssociateIamInstanceProfile on "
        f"resource: {INSTANCES}/{INSTANCE} because no identity-based policy allows the "
        "ec2:AssociateIamInstanceProfile action. Encoded authorization failure message: "
    ) in message


def test_passing_the_role_is_denied_with_the_same_code(sandbox, ec2):
    """CAP-T 1.5: "not authorized to perform: iam:PassRole on resource: <role arn>"; of the new profile on Replace."""
    association = sandbox.instance(profile="app")
    sandbox.policy(EC2)
    code, message, _ = refused(replace, ec2, association, "other")
    assert code == "UnauthorizedOperation"
    assert f"is not authorized to perform: iam:PassRole on resource: arn:aws:iam::{ACCOUNT}:role/team/other" in message


def test_detaching_needs_no_pass_role(sandbox, ec2):
    """CAP-T 3.2."""
    association = sandbox.instance(profile="app")
    sandbox.policy(EC2)
    assert disassociate(ec2, association)["State"] == "disassociating"


def test_a_profile_without_a_role_passes_no_role(sandbox, ec2):
    """CAP-T 1.3: no PassRole check is possible then."""
    sandbox.instance()
    sandbox.policy(EC2)
    assert associate(ec2, "empty")["State"] == "associating"


@pytest.mark.parametrize("condition,allowed", [
    ({"ArnLike": {"iam:AssociatedResourceArn": f"{INSTANCES}/*"}}, True),
    ({"ArnLike": {"iam:AssociatedResourceArn": f"arn:aws:ec2:*:{ACCOUNT}:instance/*"}}, True),
    ({"ArnLike": {"iam:AssociatedResourceArn": f"{INSTANCES}/{INSTANCE}"}}, False),
    ({"Null": {"iam:AssociatedResourceArn": "true"}}, False),
    ({"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}, True),
    ({"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}, False),
])
def test_what_is_passed_to_is_ec2_and_any_instance(sandbox, ec2, condition, allowed):
    """CAP-A 3.2: `iam:AssociatedResourceArn` carries `instance/*`, never the id; `Null: true` is refused."""
    sandbox.instance()
    sandbox.policy(EC2, allow("iam:PassRole", **condition))
    if allowed:
        assert associate(ec2)["State"] == "associating"
    else:
        assert "iam:PassRole" in refused(associate, ec2)[1]


@pytest.mark.parametrize("current,condition,allowed", [
    (None, {"ArnLike": {"ec2:NewInstanceProfile": f"arn:aws:iam::{ACCOUNT}:instance-profile/team/*"}}, True),
    (None, {"ArnLike": {"ec2:NewInstanceProfile": f"arn:aws:iam::{ACCOUNT}:instance-profile/app"}}, False),
    (None, {"Null": {"ec2:InstanceProfile": "true"}}, True),
    (None, {"Null": {"ec2:InstanceProfile": "false"}}, False),
    (None, {"StringEquals": {"aws:ResourceTag/iam-managed": "true"}}, True),
    (None, {"StringEquals": {"ec2:ResourceTag/iam-managed": "false"}}, False),
    (None, {"StringEquals": {"ec2:InstanceID": INSTANCE}}, True),
    (None, {"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}, False),
    ("app", {"ArnLike": {"ec2:InstanceProfile": f"arn:aws:iam::{ACCOUNT}:instance-profile/app"}}, True),
    ("app", {"Null": {"ec2:InstanceProfile": "true"}}, False),
])
def test_conditions_on_attaching(sandbox, ec2, current, condition, allowed):
    """CAP-T/A 3.2: the keys of Assoc and Repl; `ec2:InstanceProfile` is absent when none."""
    association = sandbox.instance(profile=current, tags={"iam-managed": "true"})
    actions = ["ec2:AssociateIamInstanceProfile", "ec2:ReplaceIamInstanceProfileAssociation"]
    sandbox.policy(allow("iam:PassRole"), allow(actions, f"{INSTANCES}/*", **condition))
    call = (lambda: replace(ec2, association, "other")) if current else (lambda: associate(ec2, "other"))
    if allowed:
        assert call()["State"] == "associating"
    else:
        assert refused(call)[0] == "UnauthorizedOperation"


def test_describe_knows_only_the_star(sandbox, ec2):
    """CAP 3.2: resource `*` only."""
    sandbox.policy(allow("ec2:DescribeIamInstanceProfileAssociations", f"{INSTANCES}/*"))
    assert refused(rows, ec2)[0] == "UnauthorizedOperation"
    sandbox.policy(allow("ec2:DescribeIamInstanceProfileAssociations", StringEquals={"ec2:Region": REGION}))
    assert rows(ec2) == []


def test_iam_denies_with_access_denied(sandbox, iam):
    """1.5: IAM `AccessDenied` 403."""
    sandbox.policy(EC2)
    code, message, status = refused(iam.get_instance_profile, InstanceProfileName="app")
    assert (code, status) == ("AccessDenied", 403) and "iam:GetInstanceProfile" in message


def test_a_policy_that_cannot_be_evaluated_is_refused(sandbox):
    """Ours: no statement silently means something else."""
    with pytest.raises(AssertionError, match="aws:sourceip"):
        sandbox.policy(allow("*", IpAddress={"aws:SourceIp": "10.0.0.0/8"}) | {"Condition": {"StringEquals": {"aws:SourceIp": "x"}}})


def test_the_caller_is_told_who_it_is(sandbox):
    """DOC STS; the account is in the key."""
    told = sandbox.client("sts", key="AKIA210987654321BOB").get_caller_identity()
    assert (told["Account"], told["Arn"]) == ("210987654321", "arn:aws:iam::210987654321:user/BOB")


def test_a_role_of_another_account_is_assumed_with_its_external_id_and_expires(sandbox):
    """DOC STS; 1.5 `ExpiredToken`, `RequestExpired`."""
    role = {"account": "210987654321", "name": "ops", "trustedAccounts": [ACCOUNT], "externalId": "secret"}
    arn = sandbox.admin("POST", "roles", role)["roles"][0]["arn"]
    sts = sandbox.client("sts")
    assert refused(sts.assume_role, RoleArn=arn, RoleSessionName="me")[0] == "AccessDenied"
    made = sts.assume_role(RoleArn=arn, RoleSessionName="me", ExternalId="secret")["Credentials"]
    session = {"key": made["AccessKeyId"], "token": made["SessionToken"]}
    told = sandbox.client("sts", **session).get_caller_identity()
    assert told["Arn"] == "arn:aws:sts::210987654321:assumed-role/ops/me"
    assert rows(sandbox.client("ec2", **session)) == []
    sandbox.admin("POST", "credentials", {"roleArn": arn, "state": "expired"})
    assert refused(rows, sandbox.client("ec2", **session))[0] == "RequestExpired"
    assert refused(sandbox.client("sts", **session).get_caller_identity)[0] == "ExpiredToken"


def test_a_source_identity_needs_a_permission_of_its_own(sandbox):
    """DOC STS `sts:SetSourceIdentity`."""
    arn = sandbox.admin("POST", "roles", {"name": "ops"})["roles"][0]["arn"]
    sts = sandbox.client("sts")
    assert sts.assume_role(RoleArn=arn, RoleSessionName="me")["Credentials"]
    code, message, _ = refused(sts.assume_role, RoleArn=arn, RoleSessionName="me", SourceIdentity="ns.name")
    assert code == "AccessDenied" and "sts:SetSourceIdentity" in message


def test_an_inactive_key_is_no_key(sandbox, ec2):
    """1.5 `AuthFailure`, `InvalidClientTokenId`."""
    sandbox.admin("POST", "credentials", {"accessKey": f"AKIA{ACCOUNT}ME", "state": "inactive"})
    assert refused(rows, ec2)[::2] == ("AuthFailure", 401)
    assert refused(sandbox.client("sts").get_caller_identity)[0] == "InvalidClientTokenId"


def test_an_unsigned_request_is_refused(sandbox):
    """DOC: a signature is demanded."""
    from botocore import UNSIGNED
    assert refused(rows, sandbox.client("ec2", signature_version=UNSIGNED))[0] == "AuthFailure"
    assert refused(sandbox.client("sts", signature_version=UNSIGNED).get_caller_identity)[0] == "MissingAuthenticationToken"
