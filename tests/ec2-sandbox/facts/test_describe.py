"""Section 1.2: filters and pages of DescribeIamInstanceProfileAssociations."""

import pytest
from conftest import INSTANCE, REGION, UNKNOWN, refused, rows

ONE = {"Name": "instance-id", "Values": [INSTANCE]}


def with_filter(name, *values):
    return {"Filters": [{"Name": name, "Values": list(values)}]}


@pytest.mark.parametrize("name", ["association-id", "tag:Name", "iam-instance-profile.arn"])
def test_only_two_filters_exist(sandbox, ec2, name):
    """CAP-A/T 1.2: any other is "An unknown filter '...' was given"."""
    code, message, _ = refused(rows, ec2, **with_filter(name, "x"))
    assert (code, message) == ("InvalidParameterValue", f"An unknown filter '{name}' was given")


def test_states_that_can_be_asked_for(sandbox, ec2):
    """CAP-A 1.2: `disassociated` and unknown states are errors with texts of their own."""
    sandbox.instance(profile="app")
    assert len(rows(ec2, **with_filter("state", "associating", "associated", "disassociating"))) == 1
    only = "Only 'associated', 'associating' and 'disassociating' are allowed"
    assert refused(rows, ec2, **with_filter("state", "disassociated"))[1] == only
    unknown = "A filter for an unknown association state of 'gone' was given"
    assert refused(rows, ec2, **with_filter("state", "gone"))[1] == unknown


@pytest.mark.parametrize("value", ["i-*", "i-00000000000000000", "i-xyz"])
def test_one_bad_id_fails_the_batch(sandbox, ec2, value):
    """CAP-A 1.2: no wildcards; a malformed id is an error."""
    code, message, _ = refused(rows, ec2, **with_filter("instance-id", INSTANCE, value))
    assert (code, message) == ("InvalidParameterValue", f"A filter with an invalid instance-id of '{value}' was given")


def test_a_filter_without_values_is_an_error(sandbox, ec2):
    """CAP-A 1.2: empty value list gives `InvalidParameterValue`."""
    assert refused(rows, ec2, **with_filter("instance-id"))[0] == "InvalidParameterValue"


def test_a_terminated_or_unknown_instance_gives_an_empty_list(sandbox, ec2):
    """CAP-T/A 1.2: not an error."""
    sandbox.instance(profile="app", state="terminated")
    assert rows(ec2, **with_filter("instance-id", INSTANCE, UNKNOWN)) == []


def test_two_hundred_values_a_call(sandbox, ec2):
    """1.2 (second-hand): else `FilterLimitExceeded`."""
    ids = [f"i-0{number:016x}" for number in range(1, 202)]
    assert rows(ec2, **with_filter("instance-id", *ids[:200])) == []
    assert refused(rows, ec2, **with_filter("instance-id", *ids))[0] == "FilterLimitExceeded"


def test_association_ids_are_found_unknown_or_malformed(sandbox, ec2):
    """CAP-T/A 1.2."""
    association = sandbox.instance(profile="app")
    assert len(rows(ec2, AssociationIds=[association])) == 1
    absent = "iip-assoc-0fedcba9876543210"
    code, message, _ = refused(rows, ec2, AssociationIds=[absent])
    assert (code, message) == ("InvalidAssociationID.NotFound", f"An invalid association-id of '{absent}' was given")
    code, message, _ = refused(rows, ec2, AssociationIds=["iip-assoc-00000000000000000"])
    assert code == "InvalidParameterValue" and message.startswith("Invalid value for association-id.")


def test_pages_of_any_positive_size(sandbox, ec2):
    """CAP-T 1.2: accepts 1 and 1001, rejects 0; may go with AssociationIds; a bad token is `InvalidNextToken`."""
    association = sandbox.instance(profile="app")
    for size in (1, 1001):
        assert len(rows(ec2, MaxResults=size)) == 1
    assert refused(rows, ec2, MaxResults=0)[0] == "InvalidParameterValue"
    assert len(rows(ec2, MaxResults=5, AssociationIds=[association])) == 1
    assert refused(rows, ec2, NextToken="nonsense")[0] == "InvalidNextToken"


def test_the_paginator_sees_every_row_once_in_no_order(sandbox, ec2):
    """BM 1.2: paginator; CAP-T: no order is promised."""
    made = sandbox.admin("POST", "instances", {"region": REGION, "count": 57, "profile": "app"})
    pages = ec2.get_paginator("describe_iam_instance_profile_associations")
    read = lambda: [
        row["AssociationId"]
        for page in pages.paginate(PaginationConfig={"PageSize": 10})
        for row in page["IamInstanceProfileAssociations"]
    ]
    first, second = read(), read()
    assert sorted(first) == sorted(second) == sorted(made["associationIds"])
    assert first != second


def test_accounts_and_regions_are_apart(sandbox, ec2):
    """DOC: EC2 is one per account and Region."""
    sandbox.instance(profile="app")
    assert len(rows(ec2)) == 1
    assert rows(sandbox.client("ec2", region="eu-west-1")) == []
    assert rows(sandbox.client("ec2", key="AKIA210987654321ME")) == []


def test_a_managed_instance_says_so(sandbox, ec2):
    """CAP-T 1.6: `Operator.Managed` in DescribeInstances; DOC: no profile change by anybody."""
    association = sandbox.instance(profile="app", managed=True)
    seen = ec2.describe_instances(InstanceIds=[INSTANCE])["Reservations"][0]["Instances"][0]
    assert seen["Operator"]["Managed"] is True
    code, _, _ = refused(ec2.disassociate_iam_instance_profile, AssociationId=association)
    assert code == "OperationNotPermitted"


def test_instances_are_filtered_by_profile_arn(sandbox, ec2):
    """5: DescribeInstances supports `iam-instance-profile.arn`, and its profile has the profile's id."""
    sandbox.instance(profile="other")
    arn = "arn:aws:iam::123456789012:instance-profile/team/other"
    find = lambda value: ec2.describe_instances(
        Filters=[{"Name": "iam-instance-profile.arn", "Values": [value]}]
    )["Reservations"]
    assert find(arn)[0]["Instances"][0]["IamInstanceProfile"]["Id"].startswith("AIPA")
    assert find("arn:aws:iam::123456789012:instance-profile/other") == []


def test_an_unknown_instance_id_fails_and_in_a_filter_is_absent(sandbox, ec2):
    """1.5: `InvalidInstanceID.NotFound`."""
    sandbox.instance()
    assert refused(ec2.describe_instances, InstanceIds=[INSTANCE, UNKNOWN])[0] == "InvalidInstanceID.NotFound"
    found = ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": [INSTANCE, UNKNOWN]}])
    assert len(found["Reservations"]) == 1
